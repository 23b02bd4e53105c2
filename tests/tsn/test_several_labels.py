"""Videos with several labels: one sample each, a loss for each class, and mAP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")

import tiny  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tiny_training import curve, job, run  # noqa: E402

from flowpipe.evaluation.ranking import mean_average_precision  # noqa: E402
from flowpipe.store import open_store  # noqa: E402
from flowpipe.tsn.data.batches import labels_of  # noqa: E402
from flowpipe.tsn.data.clips import Clip, clips_of  # noqa: E402
from flowpipe.tsn.run_folder import read_checkpoint  # noqa: E402
from flowpipe.tsn.testing.predict import FusedRun, predict  # noqa: E402
from flowpipe.tsn.training.learner import Learner  # noqa: E402
from flowpipe.tsn.training.losses import targets_of  # noqa: E402
from flowpipe.types import Interval  # noqa: E402


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_store(tmp_path_factory.mktemp("several") / "store", several=True)


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 6), min_size=1), min_size=1, max_size=8))
def test_targets_are_one_for_each_label(labels: list[set[int]]) -> None:
    found = targets_of(labels_of([tuple(one) for one in labels]), 7, as_weights=True)
    expected = [[float(k in one) for k in range(7)] for one in labels]
    assert found.tolist() == expected and found.dtype == torch.float32


def test_a_video_with_several_labels_is_one_sample_of_bce(several: Path) -> None:
    opened = open_store(several)
    one_by_one = clips_of(opened, "train1", "rgb", "videos")
    together = clips_of(opened, "train1", "rgb", "videos", several=True)
    assert [clip.video_id for clip in one_by_one[:3]] == ["video 00", "video 01", "video 01"]
    assert [clip.labels for clip in one_by_one[:3]] == [(0,), (0,), (1,)]
    train = [k for k in range(12) if k % 4 != 3]
    assert [clip.video_id for clip in together] == [f"video {k:02d}" for k in train]
    assert [clip.labels for clip in together] == [tuple(range(k % 3 + 1)) for k in train]


def test_instances_of_one_stretch_are_one_sample_of_bce(tmp_path: Path) -> None:
    """As every dive from a cliff of THUMOS14, which is a dive too."""
    segments = (
        Interval(2, 0, 0.1),
        Interval(1, 0.2, 0.3),
        Interval(0, 0, 0.1),
        Interval(0, 0, 0.1),
    )
    opened = open_store(tiny.make_store(tmp_path / "store", 1, segments=segments))
    assert clips_of(opened, "train1", "flow", "instances", several=True) == [
        Clip("video 00", (0, 2), 0, 3, size=(36, 48)),
        Clip("video 00", (1,), 5, 3, size=(36, 48)),
    ]


BCE = {"loss.name": "bce"}


def test_a_network_learns_all_labels_of_a_video(several: Path, tmp_path: Path) -> None:
    from flowpipe.tsn.testing import test as testing

    wanted = job(several, tmp_path, end=20, validate_every=10, stream=BCE)
    told = run(wanted)
    rows = curve(wanted.run)
    # the loss of a network that knows nothing is 3 log 2
    assert float(rows[0]["train_loss"]) > 1.8 and float(rows[-1]["val_loss"]) < 1.0
    assert float(rows[-1]["val_map"]) == 1.0 and "mAP 1.000" in told[-2]
    assert rows[-2]["val_map"] == ""
    tested = testing.test(testing.TestJob(several, wanted.run), lambda done, total: None)
    labels = [open_store(several).videos[video_id].labels for video_id in tested.video_ids]
    for scores, known in zip(tested.scores, labels, strict=True):
        assert list(np.flatnonzero(scores > 0)) == list(known)
    video_id, fused = tested.video_ids[2], FusedRun(wanted.run, several, 1.0, wanted.recipe.test)
    found = predict(video_id, [fused], "cpu", "last.pt")
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-tested.scores[2])), rtol=1e-5)
    assert found.by_snippet.shape[1] == 3 and found.by_snippet.sum(1).max() > 1.5


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
def test_map_is_that_of_scikit_learn(count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (count, classes)).astype(float)
    positives = rng.random((count, classes)) < 0.4
    known = positives.any(0)
    found = mean_average_precision(scores, positives)
    if known.any():
        expected = metrics.average_precision_score(positives[:, known], scores[:, known])
        assert found == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan(found)


def test_the_best_checkpoint_is_that_of_the_best_map(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(several, tmp_path, end=3, validate_every=1, stream=BCE)
    figures = iter([(0.2, 0.9), (0.8, 0.1), (0.5, 0.5)])  # mAP and accuracy, epoch by epoch

    def validate(learner: Learner, batches: object) -> dict[str, float]:
        precision, accuracy = next(figures)
        return {"loss": 1.0, "accuracy": accuracy, "top5": 1.0, "map": precision}

    monkeypatch.setattr(Learner, "validate", validate)
    run(wanted)
    assert read_checkpoint(wanted.run / "best.pt")["step"] == 6
