"""Training: it learns, it resumes to the same numbers after a kill, processes share it exactly."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tsn import tiny  # noqa: E402

from flowpipe.errors import FlowpipeError, FormatError, UsageError  # noqa: E402
from flowpipe.evaluation import read_facts, read_h5  # noqa: E402
from flowpipe.recipe_file import read_recipe  # noqa: E402
from flowpipe.store import open_store  # noqa: E402
from flowpipe.train_recipe import ScheduleParams  # noqa: E402
from flowpipe.tsn import mtwi  # noqa: E402
from flowpipe.tsn import test as testing  # noqa: E402
from flowpipe.tsn.distributed import Processes  # noqa: E402
from flowpipe.tsn.run_folder import LAST, read_checkpoint  # noqa: E402
from flowpipe.tsn.schedule import Schedule  # noqa: E402
from flowpipe.tsn.train import Trainer, TrainJob, check_alike, train  # noqa: E402

tiny.register()
PROGRAM = Path(tiny.__file__)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_store(tmp_path_factory.mktemp("train") / "store")


def job(
    store: Path, folder: Path, run: str = "run", *, modality: str = "rgb", **options
) -> TrainJob:
    recipe_options = {k: options.pop(k) for k in ("backbone", "dropout", "end") if k in options}
    path = tiny.write_recipe(folder / "recipe.yaml", **recipe_options)
    made = read_recipe(str(path)).build()[1]
    assert made is not None
    return TrainJob(store, folder / run, made, modality, workers=0, **options)


def run(wanted: TrainJob) -> list[str]:
    told: list[str] = []
    train(wanted, told.append)
    return told


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / LAST)["model"]


def curve(folder: Path) -> list[dict[str, str]]:
    """The log without what the clock says."""
    with (folder / "log.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "stall_share", "snippets_per_s")}
            for row in csv.DictReader(file)
        ]


def assert_same_weights(one: Path, other: Path, **tolerance: float) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for name in a:
        if tolerance:
            torch.testing.assert_close(a[name], b[name], **tolerance)
        else:
            assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_it_learns_what_can_be_learned(store: Path, tmp_path: Path, modality: str) -> None:
    wanted = job(store, tmp_path, modality=modality, end=40, validate_every=10)
    told = run(wanted)
    assert "validation loss" in told[-2] and "waited for data" in told[-2]
    rows = curve(wanted.run)
    assert len(rows) == 40 and rows[-1]["lr"] == "0.005000000000000001"
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    assert float(rows[-1]["val_accuracy"]) == 1.0
    tested = testing.test(testing.TestJob(store, wanted.run), lambda done, total: None)
    labels = [open_store(store).videos[i].labels[0] for i in tested.video_ids]
    assert tested.scores.argmax(1).tolist() == labels


def test_labels_that_mean_nothing_cannot_be_learned(store: Path, tmp_path: Path) -> None:
    # Differences of frames are noise in every class.
    wanted = job(store, tmp_path, modality="rgb_diff", end=10)
    run(wanted)
    assert float(curve(wanted.run)[-1]["train_loss"]) > 0.9


def test_a_seed_decides_everything(store: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(job(store, tmp_path, name, seed=seed, backbone="tiny_bn", dropout=0.5))
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert curve(tmp_path / "a") == curve(tmp_path / "b") != curve(tmp_path / "c")


def test_parts_of_a_batch_make_the_same_step(store: Path, tmp_path: Path) -> None:
    for name, parts in (("whole", 1), ("parts", 3)):
        run(job(store, tmp_path, name, accumulate=parts))
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("amp", ["bf16"])
def test_half_precision_trains(store: Path, tmp_path: Path, amp: str) -> None:
    run(job(store, tmp_path, amp=amp, end=20))
    assert float(curve(tmp_path / "run")[-1]["train_loss"]) < 1.0


def command(store: Path, folder: Path, name: str, *more: str) -> list[str]:
    recipe = tiny.write_recipe(folder / "recipe.yaml", "tiny_bn", dropout=0.5, end=200, step=150)
    return [
        sys.executable, str(PROGRAM), "train", str(store), "--modality", "rgb", "--recipe",
        str(recipe), "-o", str(folder / name), "--workers", "1", "--validate-every", "50", *more,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROGRAM.parent.parent), "OMP_NUM_THREADS": "1"}


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
from tsn import test_train
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
train.train(test_train.job(store, folder, backbone="tiny_bn", dropout=0.5, end=4, save_s=0))
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


def test_what_can_be_watched(store: Path, tmp_path: Path) -> None:
    event_files = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    steps: list[tuple[int, int]] = []
    wanted = job(store, tmp_path, end=4, validate_every=2, tensorboard=True)
    train(wanted, lambda line: None, lambda done, total, per_s: steps.append((done, total)))
    assert steps == [(k, 12) for k in range(1, 13)]
    events = event_files.EventAccumulator(str(wanted.run / "tensorboard")).Reload()
    rows = curve(wanted.run)
    shown = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in
             ("loss/training", "accuracy/validation", "schedule/lr")}  # fmt: skip
    for tag, column in (("loss/training", "train_loss"), ("accuracy/validation", "val_accuracy")):
        expected = [(int(r["step"]), float(r[column])) for r in rows if r[column]]
        assert [step for step, _ in shown[tag]] == [step for step, _ in expected]
        np.testing.assert_allclose([v for _, v in shown[tag]], [v for _, v in expected], rtol=1e-6)
    picture = cv2.imread(str(wanted.run / "curve.png"))
    assert picture.shape == (480, 1200, 3) and picture.std() > 10


def test_a_picture_that_cannot_be_drawn_loses_no_training(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    told = run(job(store, tmp_path, end=1))
    assert "curve.png needs matplotlib" in told[-1] and (tmp_path / "run" / LAST).exists()


def test_resume_begins_nothing(store: Path, tmp_path: Path) -> None:
    line = [*command(store, tmp_path, "none"), "--resume"]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "leave --resume out to begin" in done.stderr
    assert not (tmp_path / "none").exists()


def test_videos_of_two_stores_are_trained_on_together(store: Path, tmp_path: Path) -> None:
    more = tiny.make_store(tmp_path / "more", 5)
    wanted = job(store, tmp_path, end=2, also=(more,))
    trainer = Trainer(wanted, Processes(), print, lambda *step: None)
    clips = trainer.loader.dataset
    assert [(c.store, c.video_id) for c in clips.videos[9:]] == [
        (1, f"video {k:02d}")
        for k in range(5)  # all of them, those of test1 too
    ]
    batch = clips.__getitems__([(0, 8), (0, 9), (0, 12)])
    for images, (path, video_id) in zip(
        batch.images, ((store, "video 10"), (more, "video 00"), (more, "video 03")), strict=True
    ):
        held = open_store(path).snippet(
            video_id, "rgb", 0, open_store(path).videos[video_id].frames
        )
        for image in images.numpy():
            assert any(np.array_equal(image, one) for one in held)
    run(wanted)
    assert json.loads((wanted.run / "run.json").read_text())["also"] == ["ucf101"]


def test_stores_that_do_not_fit_are_refused(store: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tiny, "CLASSES", ("x", "y", "z"))
    other = tiny.make_store(tmp_path / "other", 3)
    with pytest.raises(UsageError, match="has other classes"):
        run(job(store, tmp_path, also=(other,)))
    monkeypatch.undo()
    same = open_store(tiny.make_store(tmp_path / "same", 3))
    monkeypatch.setattr(same, "quantiser", lambda modality: {"bound": 15.0})
    with pytest.raises(UsageError, match="extract with the same bound"):
        check_alike(open_store(store), same, "flow")


def test_schedules_count_in_iterations_or_epochs() -> None:
    by_epoch = Schedule(ScheduleParams(0.1, "epochs", (2, 3), 0.1, 5), steps_an_epoch=4)
    assert (by_epoch.steps, by_epoch.epochs) == (20, 5)
    assert [by_epoch.factor(s) for s in (0, 7, 8, 11, 12, 19)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    by_step = Schedule(ScheduleParams(0.1, "iterations", (6, 7), 0.1, 9), steps_an_epoch=4)
    assert (by_step.steps, by_step.epochs) == (9, 3)
    assert [by_step.factor(s) for s in (0, 5, 6, 7, 8)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])


def test_iterations_end_inside_an_epoch(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path)
    stream = wanted.recipe.streams["rgb"]
    object.__setattr__(stream, "schedule", ScheduleParams(0.05, "iterations", (3,), 0.1, 4, 4))
    run(wanted)
    rows = curve(wanted.run)
    assert [row["step"] for row in rows] == ["3", "4"] and rows[-1]["val_accuracy"]


def test_scores_are_means_over_crops_then_snippets(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=3)
    run(wanted)
    network, opened = testing.Network(wanted.run, LAST, "cpu"), open_store(store)
    tested = testing.test(testing.TestJob(store, wanted.run), lambda done, total: None)
    video_id = tested.video_ids[0]
    assert video_id == "video 03"  # twelve frames: ticks of 3, from 1.5 on
    starts = np.array([1, 4, 7, 10])
    by_hand = []
    for start in starts:
        frame = opened.snippet(video_id, "rgb", int(start), 1)[0].astype(np.float32) / 255
        mean, std = (np.array(v)[:, None, None] for v in
                     ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
        frame = (frame - mean) / std
        for x, y in ((0, 0), (16, 0), (0, 4), (16, 4), (8, 2)):
            crop = frame[:, y : y + 32, x : x + 32]
            for image in (crop, crop[:, :, ::-1].copy()):
                with torch.no_grad():
                    x_in = torch.from_numpy(image).float()[None]
                    by_hand.append(network.model.new_fc(network.model.base_model(x_in))[0].numpy())
    np.testing.assert_allclose(tested.scores[0], np.mean(by_hand, 0), rtol=1e-3, atol=1e-5)
    best = replace(wanted.recipe.test, of_crops="max")
    tested = testing.test(testing.TestJob(store, wanted.run, params=best), lambda done, total: None)
    of_snippets = np.reshape(by_hand, (4, 10, 3)).max(1)
    np.testing.assert_allclose(tested.scores[0], of_snippets.mean(0), rtol=1e-3, atol=1e-5)


def test_mirrored_crops_may_keep_the_sign_of_x(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, modality="flow", end=3)
    run(wanted)
    network, opened = testing.Network(wanted.run, LAST, "cpu"), open_store(store)
    starts = np.array([1, 4])
    right = network.snippet_scores(opened, "video 03", starts, 10, "last")
    stream = replace(network.facts.stream, compat=("mmaction2_ten_crop",))
    network.facts = replace(network.facts, stream=stream)
    theirs = network.snippet_scores(opened, "video 03", starts, 10, "last")
    same = np.isclose(right, theirs, rtol=1e-5).all((0, 2))
    assert same.sum() == 5  # those that are not mirrored


def test_untrimmed_testing_takes_snippets_by_time(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=3)
    run(wanted)
    params = replace(wanted.recipe.test, protocol="mtwi", rate_hz=5.0, windows=(1, 2), crops="1")
    tested = testing.test(
        testing.TestJob(store, wanted.run, params=params), lambda done, total: None
    )
    network, opened = testing.Network(wanted.run, LAST, "cpu"), open_store(store)
    starts = mtwi.starts_at(opened.pts_s("video 03"), 5.0)
    assert starts.tolist() == [0, 5, 10]
    scores = network.snippet_scores(opened, "video 03", starts, 1, "repeat")
    np.testing.assert_allclose(tested.scores[0], mtwi.aggregate(scores, (1, 2)), rtol=1e-6)


def test_errors_say_what_is_wrong(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the recipe trains rgb, flow, rgb_diff, not warped_flow"):
        run(job(store, tmp_path, modality="warped_flow"))
    with pytest.raises(UsageError, match="no labelled videos of split train2"):
        run(job(store, tmp_path, split=2))
    run(job(store, tmp_path, end=1))
    with pytest.raises(UsageError, match="has a run that differs in modality"):
        run(job(store, tmp_path, modality="flow", end=1))
    (tmp_path / "run" / LAST).write_bytes(b"torn")
    with pytest.raises(FormatError, match="cannot be read as a checkpoint"):
        run(job(store, tmp_path, end=1))
    with pytest.raises(FormatError, match="is no run of flowpipe train"):
        testing.Network(tmp_path, LAST, "cpu")
    wild = job(store, tmp_path, "wild", end=3)
    object.__setattr__(wild.recipe.streams["rgb"].schedule, "lr", 1e30)
    try:
        run(wild)
    except FlowpipeError as error:  # a first step that is finite already is no error
        assert "too large" in str(error)


def test_a_store_of_other_classes_is_refused(store: Path, tmp_path: Path, monkeypatch) -> None:
    run(job(store, tmp_path, end=1))
    monkeypatch.setattr(tiny, "CLASSES", ("x", "y", "z"))
    other = tiny.make_store(tmp_path / "other")
    with pytest.raises(UsageError, match="has other classes"):
        testing.test(testing.TestJob(other, tmp_path / "run"), lambda done, total: None)


def test_the_commands_from_training_to_the_fused_table(store: Path, tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", end=20)

    def flowpipe(*words: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *map(str, words)],
            env=environment(), capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    for modality in ("rgb", "flow"):
        run_at = tmp_path / f"run-{modality}"
        flowpipe("train", store, "--modality", modality, "--recipe", recipe, "-o", run_at,
                 "--set", f"streams.{modality}.dropout=0.1", "--workers", "0")  # fmt: skip
        shown = flowpipe("test", store, run_at, "-o", tmp_path / f"{modality}.h5")
        assert "mean class accuracy" in shown.stdout and "100.00" in shown.stdout
    facts = read_facts(tmp_path / "flow.h5")
    assert (facts["modality"], facts["split_name"]) == ("flow", "test1")
    assert facts["stream"]["dropout"] == 0.1
    table = flowpipe("fuse", tmp_path / "rgb.h5", tmp_path / "flow.h5", "--weights", "1,1.5",
                     "--sweep", "-o", tmp_path / "all.h5")  # fmt: skip
    assert "fused 1, 1.5" in table.stdout and "chosen on these videos" in table.stderr
    rgb, flow, both = (read_h5(tmp_path / f"{n}.h5") for n in ("rgb", "flow", "all"))
    np.testing.assert_allclose(both.values, rgb.values + 1.5 * flow.values)
    again = flowpipe("evaluate", store, tmp_path / "all.h5")
    assert "100.00" in again.stdout
