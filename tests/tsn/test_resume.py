"""A run that was killed, or that processes share, makes the numbers of one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tsn import tiny  # noqa: E402
from tsn.training import (  # noqa: E402
    PROGRAM,
    assert_same_weights,
    command,
    curve,
    environment,
    job,
    run,
)

from flowpipe.tsn.run_folder import LAST, read_checkpoint  # noqa: E402


def test_a_killed_run_goes_on_with_the_same_curve(store: Path, tmp_path: Path) -> None:
    subprocess.run(command(store, tmp_path, "whole"), check=True, env=environment())
    broken, kills = command(store, tmp_path, "broken"), 0
    while True:
        process = subprocess.Popen(broken, env=environment(), stderr=subprocess.DEVNULL)
        at = len(curve(tmp_path / "broken")) if (tmp_path / "broken" / "log.csv").exists() else 0
        while process.poll() is None and kills < 2:
            time.sleep(0.01)
            log = tmp_path / "broken" / "log.csv"
            if log.exists() and len(curve(tmp_path / "broken")) >= at + 20:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills == 2
    assert curve(tmp_path / "whole") == curve(tmp_path / "broken")
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")


def test_it_resumes_inside_an_epoch(store: Path, tmp_path: Path, monkeypatch) -> None:
    from flowpipe.tsn import run_folder
    from flowpipe.tsn import train as module

    run(job(store, tmp_path, "whole", backbone="tiny_bn", dropout=0.5))
    interrupted = job(store, tmp_path, "broken", backbone="tiny_bn", dropout=0.5, save_s=0.0)
    saves = []

    def save_and_stop(path: Path, values) -> None:
        run_folder_save(path, values)
        saves.append(values["step"])
        if values["step"] == 4:  # an epoch has three steps
            raise KeyboardInterrupt

    run_folder_save = run_folder.save
    monkeypatch.setattr(module.run_folder, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    monkeypatch.undo()
    told = run(interrupted)
    assert told[0] == "going on at step 4 of 18"
    assert curve(tmp_path / "whole") == curve(tmp_path / "broken")
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")


def test_resume_begins_nothing(store: Path, tmp_path: Path) -> None:
    line = [*command(store, tmp_path, "none"), "--resume"]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "leave --resume out to begin" in done.stderr
    assert not (tmp_path / "none").exists()


def test_two_processes_make_what_one_makes(store: Path, tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", end=5)
    options = [
        "train", str(store), "--modality", "rgb", "--recipe", str(recipe), "--workers", "0",
        "--device", "cpu", "--set", "streams.rgb.schedule.batch_size=3",
    ]  # fmt: skip
    for name, devices in (("one", "1"), ("two", "2")):  # two are started by torchrun
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *options, "--devices", devices, "-o",
             str(tmp_path / name)],
            env=environment(), capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for said in ("epoch 5/5", "curves: ", "next: "):  # only one of them speaks
            assert done.stderr.count(said) == 1
    assert_same_weights(tmp_path / "one", tmp_path / "two", rtol=1e-4, atol=1e-6)
    for one, two in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert float(one["train_loss"]) == pytest.approx(float(two["train_loss"]), rel=1e-4)
        assert one["val_accuracy"] == two["val_accuracy"]


TOGETHER = """
import itertools, os, sys
from pathlib import Path
from tsn import training
from flowpipe.tsn import train

train._AGREED_EVERY = 1
store, folder, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
plain = train.Learner.step
left = itertools.count(stop, -1)

def step(learner, *rest):
    if next(left) == 0:
        os._exit(9)
    return plain(learner, *rest)

train.Learner.step = step
train.train(training.job(store, folder, backbone="tiny_bn", dropout=0.5, end=4, save_s=0))
# One of the process group's threads that comes to itself while Python ends aborts the process.
threads = [comm.read_text() for comm in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], threads
"""


def test_processes_go_on_together_inside_an_epoch(store: Path, tmp_path: Path) -> None:
    program = tmp_path / "together.py"
    program.write_text(TOGETHER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for name, stop in (("whole", -1), ("broken", 5), ("broken", -1)):  # an epoch has two steps
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [*torchrun, "--nproc-per-node=2", str(program), str(store), str(folder), str(stop)],
            env=environment(), capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert (done.returncode == 0) == (stop < 0), done.stderr
        if stop > 0:
            assert read_checkpoint(folder / "run" / LAST)["step"] == 5
    assert "going on at step 5 of 8" in done.stdout
    assert curve(tmp_path / "whole" / "run") == curve(tmp_path / "broken" / "run")
    assert_same_weights(tmp_path / "whole" / "run", tmp_path / "broken" / "run")
