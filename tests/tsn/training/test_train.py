"""Training: it learns, its seed decides every number, and wrong settings are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from command import in_process  # noqa: E402
from tiny_training import assert_same_weights, curve, job, run  # noqa: E402

from flowpipe.errors import FlowpipeError, FormatError, UsageError  # noqa: E402
from flowpipe.evaluation import read_facts, read_h5  # noqa: E402
from flowpipe.store import open_store  # noqa: E402
from flowpipe.tsn.data.batches import Batch  # noqa: E402
from flowpipe.tsn.distributed import Processes  # noqa: E402
from flowpipe.tsn.recipe import ScheduleParams  # noqa: E402
from flowpipe.tsn.run_folder import LAST  # noqa: E402
from flowpipe.tsn.testing import test as testing  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer  # noqa: E402
from flowpipe.tsn.training.job import check_same_recipe  # noqa: E402
from flowpipe.tsn.training.schedule import Schedule  # noqa: E402
from flowpipe.tsn.training.train import Trainer, train  # noqa: E402


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_training_learns_classes_that_can_be_learned(
    store: Path, tmp_path: Path, modality: str
) -> None:
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


def test_gradient_accumulation_gives_the_same_step(store: Path, tmp_path: Path) -> None:
    for name, parts in (("whole", 1), ("parts", 3)):
        run(job(store, tmp_path, name, accumulate=parts))
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("amp", ["bf16"])
def test_training_works_in_half_precision(store: Path, tmp_path: Path, amp: str) -> None:
    run(job(store, tmp_path, amp=amp, end=20))
    assert float(curve(tmp_path / "run")[-1]["train_loss"]) < 1.0


def test_a_training_reports_its_steps_and_writes_tensorboard(store: Path, tmp_path: Path) -> None:
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


def test_videos_of_two_stores_are_trained_on_together(store: Path, tmp_path: Path) -> None:
    more = tiny.make_store(tmp_path / "more", 5)
    wanted = job(store, tmp_path, end=2, also=(more,))
    trainer = Trainer(wanted, Processes(), print, lambda *step: None)
    clips = trainer.loader.clips
    assert [(c.store, c.video_id) for c in clips.videos[9:]] == [
        (1, f"video {k:02d}")
        for k in range(5)  # all of them, those of test1 too
    ]
    batch = Batch([clips.read([(0, 8), (0, 9), (0, 12)])])
    for images, sample, (path, video_id) in zip(
        batch.images, batch.samples,
        ((store, "video 10"), (more, "video 00"), (more, "video 03")), strict=True,
    ):  # fmt: skip
        top, bottom, left, right = sample.part
        held = open_store(path).snippet(
            video_id, "rgb", 0, open_store(path).videos[video_id].frames
        )
        for image in images.numpy():
            assert any(np.array_equal(image, one[:, top:bottom, left:right]) for one in held)
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
        check_same_recipe(open_store(store), same, "flow")


def test_schedules_count_in_iterations_or_epochs() -> None:
    by_epoch = Schedule(
        ScheduleParams(lr=0.1, unit="epochs", lr_steps=(2, 3), lr_decay=0.1, end=5),
        steps_an_epoch=4,
    )
    assert (by_epoch.steps, by_epoch.epochs) == (20, 5)
    assert [by_epoch.factor(s) for s in (0, 7, 8, 11, 12, 19)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    by_step = Schedule(
        ScheduleParams(lr=0.1, unit="iterations", lr_steps=(6, 7), lr_decay=0.1, end=9),
        steps_an_epoch=4,
    )
    assert (by_step.steps, by_step.epochs) == (9, 3)
    assert [by_step.factor(s) for s in (0, 5, 6, 7, 8)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])


def test_iterations_end_inside_an_epoch(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path)
    stream = wanted.recipe.streams["rgb"]
    object.__setattr__(
        stream,
        "schedule",
        ScheduleParams(
            lr=0.05, unit="iterations", lr_steps=(3,), lr_decay=0.1, end=4, batch_size=4
        ),
    )
    run(wanted)
    rows = curve(wanted.run)
    assert [row["step"] for row in rows] == ["3", "4"] and rows[-1]["val_accuracy"]


def test_errors_name_what_is_wrong(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the recipe trains rgb, flow, rgb_diff, not warped_flow"):
        run(job(store, tmp_path, modality="warped_flow"))
    with pytest.raises(UsageError, match="split .train2. is unknown"):
        run(job(store, tmp_path, split=2, weights=tmp_path / "fetched later"))
    before = sorted(store.rglob("*"))
    with pytest.raises(UsageError, match="is a flowpipe store; choose another folder for the run"):
        run(job(store, store.parent, store.name, end=1))
    assert sorted(store.rglob("*")) == before
    run(job(store, tmp_path, end=1))
    with pytest.raises(UsageError, match='modality is ".*" there and ".*" here'):
        run(job(store, tmp_path, modality="flow", end=1))
    (tmp_path / "run" / LAST).write_bytes(b"torn")
    with pytest.raises(FormatError, match="cannot be read as a checkpoint"):
        run(job(store, tmp_path, end=1))
    with pytest.raises(FormatError, match="is no run of flowpipe train"):
        SnippetScorer(tmp_path, LAST, "cpu")
    wild = job(store, tmp_path, "wild", end=3)
    object.__setattr__(wild.recipe.streams["rgb"].schedule, "lr", 1e30)
    with pytest.raises(FlowpipeError, match=r"the loss is (nan|inf) at step \d+; is lr 1e\+30 too"):
        run(wild)


def test_the_commands_go_from_training_to_the_fused_table(store: Path, tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", end=20)

    def flowpipe(*words: object) -> subprocess.CompletedProcess[str]:
        done = in_process(*words)
        assert done.returncode == 0, done.stderr
        return done

    for modality in ("rgb", "flow"):
        run_at = tmp_path / f"run-{modality}"
        flowpipe("train", store, "--modality", modality, "--recipe", recipe, "-o", run_at,
                 "--set", f"streams.{modality}.dropout=0.1", "--workers", "0",
                 "--set", "fusion={rgb: 1, flow: 1.5}")  # fmt: skip
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
    shared = flowpipe("fuse", tmp_path / "rgb.h5", tmp_path / "flow.h5", "-o", tmp_path / "too.h5")
    assert "weights 1, 1.5 (the recipe that the runs share)" in shared.stderr
    np.testing.assert_array_equal(read_h5(tmp_path / "too.h5").values, both.values)
    again = flowpipe("evaluate", store, tmp_path / "all.h5")
    assert "100.00" in again.stdout


def test_synchronised_normalisation_is_refused_where_torch_has_none(
    store: Path, tmp_path: Path
) -> None:
    wanted = job(store, tmp_path, backbone="tiny_bn", end=1, stream={"sync_bn": "true"})
    with pytest.raises(UsageError, match="sync_bn with several processes needs GPUs"):
        Trainer(wanted, Processes(1, 2, "cpu"), print, lambda *step: None)
    run(wanted)  # one process has the statistics of all
    assert curve(wanted.run)[-1]["val_loss"]
