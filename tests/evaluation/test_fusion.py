"""Files of scores and their fusion: videos come in any order, other videos are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowpipe.errors import FormatError, UsageError
from flowpipe.evaluation import (
    Scores,
    fuse,
    probabilities,
    read_facts,
    read_h5,
    read_scores,
    sigmoid,
    softmax,
    write_scores,
)

IDS = ("a", "b é", "c")
LABELS = np.eye(3, 4, dtype=bool)


def scores(seed: int, ids: tuple[str, ...] = IDS, labels: np.ndarray | None = LABELS) -> Scores:
    values = np.random.default_rng(seed).normal(size=(len(ids), 4))
    return Scores(f"{seed}.h5", ids, values, labels)


def test_a_file_returns_the_scores_that_were_written(tmp_path: Path) -> None:
    path, made = tmp_path / "x.h5", scores(1)
    write_scores(path, made, {"modality": "rgb"})
    again = read_h5(path)
    assert again.video_ids == IDS and read_facts(path) == {"modality": "rgb"}
    np.testing.assert_array_equal(again.values, made.values)
    np.testing.assert_array_equal(again.positives, LABELS)
    assert read_scores(path, 4).video_ids == IDS
    with pytest.raises(FormatError, match="wanted 5 scores"):
        read_scores(path, 5)
    path.write_bytes(b"no HDF5")
    with pytest.raises(FormatError, match="cannot be read as scores"):
        read_h5(path)
    with h5py.File(path, "w") as features:
        features["rows"] = [1]
    with pytest.raises(FormatError, match="it lacks the data set video_ids and scores; wanted"):
        read_h5(path)
    write_scores(path, Scores("x", IDS, np.full((3, 4), np.nan)), {})
    with pytest.raises(FormatError, match="all finite"):
        read_h5(path)


def test_probabilities_are_the_softmax_of_each_video() -> None:
    made = Scores("x", ("a", "b"), np.log([[1.0, 3.0], [500.0, 1500.0]]) + 700)
    np.testing.assert_allclose(probabilities(made).values, [[0.25, 0.75], [0.25, 0.75]])


def test_softmax_takes_one_video_or_many_and_any_values() -> None:
    np.testing.assert_allclose(softmax(np.log([1.0, 2.0, 5.0])), [0.125, 0.25, 0.625])
    made = softmax(np.array([[0.0, 2000.0, 0.0], [-2000.0, 0.0, 0.0]]))
    np.testing.assert_allclose(made, [[0, 1, 0], [0, 0.5, 0.5]])


def test_a_stream_may_weigh_little_or_nothing() -> None:
    one, two = scores(1), scores(2)
    np.testing.assert_array_equal(fuse([one, two], (0, 0.5)).values, 0.5 * two.values)


def test_probabilities_of_single_classes() -> None:
    values = np.array([0.0, np.log(3), -np.log(3), 800.0, -800.0])
    np.testing.assert_allclose(sigmoid(values), [0.5, 0.75, 0.25, 1, 0], atol=1e-15)


def test_the_sum_is_weighted_and_follows_the_ids() -> None:
    one, two = scores(1), scores(2)
    order = [2, 0, 1]
    turned = Scores("t", tuple(IDS[k] for k in order), two.values[order], LABELS[order])
    total = fuse([one, turned], (1, 1.5))
    assert total.video_ids == IDS
    np.testing.assert_allclose(total.values, one.values + 1.5 * two.values)
    np.testing.assert_array_equal(total.positives, LABELS)


def test_streams_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(UsageError, match=r"different videos: 1.h5 lacks 1 video, such as d$"):
        fuse([scores(1), scores(2, ("a", "b é", "d"))], (1, 1))
    with pytest.raises(UsageError, match="different classes or labels"):
        fuse([scores(1), scores(2, labels=~LABELS)], (1, 1))
    with pytest.raises(UsageError, match="wanted 1 weight from 0 up,"):
        fuse([scores(1)], (1, 1))
    for weights in ((0, 0), (-1, 2), (np.nan, 1), (np.inf, 1)):
        with pytest.raises(UsageError, match="from 0 up, one of them above 0"):
            fuse([scores(1), scores(2)], weights)


def without(made: Scores, video_id: str, left_out: tuple[str, ...] | None) -> Scores:
    """Scores without those of a video."""
    rows = [k for k, one in enumerate(made.video_ids) if one != video_id]
    return replace(
        made, video_ids=tuple(made.video_ids[k] for k in rows), values=made.values[rows],
        positives=None if made.positives is None else made.positives[rows], left_out=left_out,
    )  # fmt: skip


def test_videos_without_images_have_the_other_streams_alone(tmp_path: Path) -> None:
    rgb = replace(scores(1), left_out=("no image",))
    heard = without(scores(2), "b é", ("b é", "no image"))
    write_scores(tmp_path / "2.h5", heard, {})
    heard = read_h5(tmp_path / "2.h5")
    assert heard.left_out == ("b é", "no image")
    want = rgb.values + 1.5 * np.insert(heard.values, 1, 0, axis=0)
    for streams, weights in (((rgb, heard), (1, 1.5)), ((heard, rgb), (1.5, 1))):
        total = fuse(streams, weights)
        assert total.video_ids == IDS and total.left_out == ("no image",)
        np.testing.assert_allclose(total.values, want)
        np.testing.assert_array_equal(total.positives, LABELS)
    # No stream has all videos.
    total = fuse([heard, without(rgb, "a", ("a",))], (1, 1))
    assert total.video_ids == ("a", "c", "b é") and total.left_out == ("no image",)
    np.testing.assert_allclose(total.values[1], heard.values[1] + rgb.values[2])
    np.testing.assert_array_equal(total.positives, LABELS[[0, 2, 1]])
    with pytest.raises(UsageError, match="b é has scores of streams of weight 0 only"):
        fuse([rgb, heard], (0, 1))


def test_videos_that_a_file_does_not_name_are_missed(tmp_path: Path) -> None:
    for left_out, hint in (((), "$"), (("a",), "$"), (None, "; 2.h5 does not name videos")):
        heard = without(scores(2), "b é", left_out)
        for streams in ([scores(1), heard], [heard, scores(1)]):
            with pytest.raises(UsageError, match=f"2.h5 lacks 1 video, such as b é{hint}"):
                fuse(streams, (1, 1))
    rgb = without(scores(1), "c", ("c",))
    with pytest.raises(UsageError, match="no file of its scores has labels of c"):
        fuse([rgb, scores(2, labels=None)], (1, 1))
