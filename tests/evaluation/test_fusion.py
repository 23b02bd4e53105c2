"""Files of scores and their fusion: videos come in any order, other videos are refused."""

from __future__ import annotations

from pathlib import Path

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
    with pytest.raises(UsageError, match="2 videos in only one of them, such as c"):
        fuse([scores(1), scores(2, ("a", "b é", "d"))], (1, 1))
    with pytest.raises(UsageError, match="different classes or labels"):
        fuse([scores(1), scores(2, labels=~LABELS)], (1, 1))
    with pytest.raises(UsageError, match="wanted 1 weight from 0 up,"):
        fuse([scores(1)], (1, 1))
    for weights in ((0, 0), (-1, 2), (np.nan, 1), (np.inf, 1)):
        with pytest.raises(UsageError, match="from 0 up, one of them above 0"):
            fuse([scores(1), scores(2)], weights)
