"""A killed run, or one that several processes share, gives the numbers of an undisturbed one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from command import in_process, wait_for  # noqa: E402
from tiny_training import (  # noqa: E402
    MIXED,
    PROGRAM,
    assert_same_weights,
    command,
    curve,
    environment,
    interrupt_training,
    job,
    run,
    train_and_resume,
    trainer_of,
)

from flowpipe.tsn import run_folder  # noqa: E402
from flowpipe.tsn.distributed import Processes  # noqa: E402
from flowpipe.tsn.launch import launch  # noqa: E402
from flowpipe.tsn.run_folder import BEST, EMA, LAST, read_checkpoint  # noqa: E402
from flowpipe.tsn.training.steps import STEP_LOG  # noqa: E402


def test_a_killed_run_resumes_with_the_same_curve(store: Path, tmp_path: Path) -> None:
    whole, broken = (command(store, tmp_path, name, end=60) for name in ("whole", "broken"))
    assert in_process(*whole[2:]).returncode == 0
    log = tmp_path / "broken" / "log.csv"
    for epochs in (10, 30):
        process = subprocess.Popen(broken, env=environment(), stderr=subprocess.DEVNULL)
        wait_for(lambda epochs=epochs: log.exists() and len(curve(log.parent)) >= epochs)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was done before it was killed"
    done = in_process(*broken[2:])
    assert done.returncode == 0 and "resuming at step" in done.stderr
    again = in_process(*broken[2:])
    assert again.returncode == 0 and "resuming" not in again.stderr
    assert "the run is finished: 180 steps are done and none is left" in again.stderr
    for name in ("log.csv", STEP_LOG):
        assert curve(tmp_path / "whole", name) == curve(tmp_path / "broken", name)
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize("step", [3, 4])
def test_a_run_resumes_after_any_step(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    # Step 3 is at the end of an epoch, step 4 inside one.
    whole, broken, told = train_and_resume(store, tmp_path, step, monkeypatch)
    assert f"resuming at step {step} of 18" in told
    assert curve(whole, STEP_LOG) == curve(broken, STEP_LOG)
    assert_same_weights(whole, broken, BEST)


def test_each_process_draws_its_own_dropout_after_a_change_of_their_number(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(store, tmp_path, backbone="tiny_bn", dropout=0.5, seed=5)
    interrupt_training(wanted, 4, monkeypatch)
    values = read_checkpoint(wanted.run / LAST)
    values["random"] *= 2  # as of two processes
    run_folder.save(wanted.run / LAST, values)
    states = []

    def stop(batch: Any, size: int) -> None:
        states.append(torch.get_rng_state())
        raise KeyboardInterrupt

    for rank in range(2):
        trainer = trainer_of(wanted)
        trainer.processes, trainer.learner.step = Processes(rank), stop
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    assert not torch.equal(*states)


def test_a_run_resumes_with_another_precision(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(store, tmp_path, end=3)
    for step, amp in ((2, "off"), (4, "fp16"), (5, "bf16")):
        interrupt_training(replace(wanted, amp=amp), step, monkeypatch)
        assert ("scale" in read_checkpoint(wanted.run / LAST)["scaler"]) == (amp == "fp16")
    assert "resuming at step 5 of 9" in run(replace(wanted, amp="fp16"))


def test_resume_starts_no_new_run(store: Path, tmp_path: Path) -> None:
    done = in_process(*command(store, tmp_path, "none")[2:], "--resume")
    assert done.returncode == 2 and "leave --resume out to start a run" in done.stderr
    assert not (tmp_path / "none").exists()


def test_two_processes_give_the_numbers_of_one(store: Path, tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", end=5)
    options = [
        "train", str(store), "--modality", "rgb", "--recipe", str(recipe), "--workers", "0",
        "--device", "cpu", "--set", "streams.rgb.schedule.batch_size=3", "-o",
    ]  # fmt: skip
    one = in_process(*options, tmp_path / "one")
    two = subprocess.run(
        [sys.executable, str(PROGRAM), *options, str(tmp_path / "two"), "--devices", "2"],
        env=environment(), capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    for done in (one, two):
        assert done.returncode == 0, done.stderr
        for said in ("epoch 5/5", "curves: ", "next: "):  # only one of two speaks
            assert done.stderr.count(said) == 1
    assert_same_weights(tmp_path / "one", tmp_path / "two", rtol=1e-4, atol=1e-6)
    for a, b in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert float(a["train_loss"]) == pytest.approx(float(b["train_loss"]), rel=1e-4)
        assert a["val_accuracy"] == b["val_accuracy"]


TOGETHER = """
import itertools, json, os, sys
from pathlib import Path
import tiny_training as training
from flowpipe.tsn import launch
from flowpipe.tsn.training import train

train._AGREED_EVERY = 1
stop, jobs = map(json.loads, sys.argv[1:])
plain = train.Learner.step
left = itertools.count(stop, -1)

def step(learner, *rest):
    if next(left) == 0:
        os._exit(9)
    return plain(learner, *rest)

train.Learner.step = step
for store, folder, name, settings in jobs:
    train.train(training.job(Path(store), Path(folder), name, **settings))
    if launch.RENDEZVOUS in os.environ:  # they part, and find each other again
        os.environ[launch.RENDEZVOUS] += "-next"
# One of the process group's threads that comes to itself while Python ends aborts the process.
threads = [comm.read_text() for comm in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], threads
"""


JOINT = {
    "backbone": "tiny_bn", "dropout": 0.5, "end": 4, "save_s": 0,
    "stream": {"augment.mixup": 0.4, "schedule.ema": 0.9, "schedule.warmup": 2},
}  # fmt: skip
DIVIDED = {
    "end": 3,
    "stream": {**MIXED, "schedule.optimiser": "sgd", "schedule.batch_size": 3, "loss.name": "bce",
               "loss.label_smoothing": 0},
}  # fmt: skip


def jobs_of(store: Path, settings: dict[str, Any], *runs: Path) -> list[list[object]]:
    return [[str(store), str(run.parent), run.name, settings] for run in runs]


@pytest.fixture(scope="module")
def together(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train three runs in the same two processes, which end in the midst of the last one."""
    folder = tmp_path_factory.mktemp("together")
    several = tiny.make_store(folder / "several", several=True)
    for name in ("joint", "divided"):
        (folder / name).mkdir()
    program = folder / "together.py"
    program.write_text(TOGETHER)
    jobs = [
        *jobs_of(several, DIVIDED, folder / "divided" / "two"),
        *jobs_of(store, JOINT, folder / "joint" / "whole", folder / "joint" / "broken"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        # 9 steps of the first run, 8 of the whole one, 5 of the last one, which has 2 in an epoch
        assert launch(2, [str(program), str(9 + 8 + 5), json.dumps(jobs)]) == 9
    return folder


def test_processes_resume_together_inside_an_epoch(store: Path, together: Path) -> None:
    whole, broken = (together / "joint" / name for name in ("whole", "broken"))
    assert read_checkpoint(broken / LAST)["step"] == 5
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, together / "together.py", "-1", json.dumps(jobs_of(store, JOINT, broken))],
        env=environment(), capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "resuming at step 5 of 8" in done.stdout
    for name in ("log.csv", STEP_LOG):
        assert curve(whole, name) == curve(broken, name)
    for name in (LAST, EMA):
        assert_same_weights(whole, broken, name)


def test_two_processes_mix_what_one_mixes(together: Path) -> None:
    folder = together / "divided"
    run(job(together / "several", folder, "one", **DIVIDED))
    for name in (LAST, EMA):
        assert_same_weights(folder / "one", folder / "two", name, rtol=1e-4, atol=1e-6)
    one, two = (curve(folder / name) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for column in ("train_loss", "train_accuracy"):
            assert float(a[column]) == pytest.approx(float(b[column]), rel=1e-4)
    # one process validates two videos, the other one
    assert 0 < float(one[-1]["val_map"]) == pytest.approx(float(two[-1]["val_map"]), rel=1e-6)
