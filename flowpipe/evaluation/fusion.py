"""Scores of several streams -> their weighted sum, before any softmax, as TSN fuses them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.evaluation.scores import Scores
from flowpipe.words import count_noun


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of scores over the last axis.

    Parameters
    ----------
    values : float64 (..., C)
        Scores of C classes.

    Returns
    -------
    float64 (..., C)
        Probabilities.
    """
    powers = np.exp(values - values.max(-1, keepdims=True))
    made: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return made


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sigmoid of scores, for networks trained with ``bce``.

    Parameters
    ----------
    values : float64 (...)
        Scores.

    Returns
    -------
    float64 (...)
        Probability of each class on its own.
    """
    made: NDArray[np.float64] = 0.5 * (1 + np.tanh(values / 2))  # exp would overflow
    return made


def probabilities(scores: Scores, *, by_class: bool = False) -> Scores:
    """Turn the scores of each video into probabilities.

    Parameters
    ----------
    scores : Scores
        Scores before the softmax.
    by_class : bool
        Take the sigmoid of each score instead of the softmax of all.

    Returns
    -------
    Scores
        The same videos with probabilities.
    """
    return replace(scores, values=(sigmoid if by_class else softmax)(scores.values))


def fuse(streams: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """Return the weighted sum of the scores of each video.

    A stream may lack the videos that it has left out (`Scores.left_out`), as one of sound leaves
    out silent films. The sum of such a video has only the other streams.

    Parameters
    ----------
    streams : sequence of Scores
        Scores of the same videos, in any order.
    weights : sequence of float
        Weight of each stream, 0 or more and at least one above 0.

    Returns
    -------
    Scores
        The sum, with the videos in the order of the first stream that has most of them.

    Raises
    ------
    UsageError
        If the weights are not such, or the streams have different videos, classes or labels.
    """
    if (
        len(weights) != len(streams)
        or not all(0 <= weight < math.inf for weight in weights)
        or not any(weights)
    ):
        raise UsageError(
            f"wanted {count_noun(len(streams), 'weight')} from 0 up, one of them above 0, got "
            f"{list(weights)}"
        )
    by_size = sorted(streams, key=lambda stream: -len(stream.video_ids))
    rows: dict[str, int] = {}
    for stream in by_size:
        for video_id in stream.video_ids:
            rows.setdefault(video_id, len(rows))
    first = by_size[0]
    total = np.zeros((len(rows), first.values.shape[1]))
    positives, has_labels = np.zeros(total.shape, bool), np.zeros(len(rows), bool)
    has_weight = np.zeros(len(rows), bool)
    for stream, weight in zip(streams, weights, strict=True):
        _check_videos(stream, by_size, rows)
        order = np.array([rows[video_id] for video_id in stream.video_ids], int)
        if stream.values.shape[1] != total.shape[1]:
            raise _different_labels(stream, first)
        total[order] += weight * stream.values
        has_weight[order] |= weight > 0
        if stream.positives is not None:
            known = has_labels[order]
            if not np.array_equal(positives[order][known], stream.positives[known]):
                raise _different_labels(stream, first)
            positives[order], has_labels[order] = stream.positives, True
    ids = tuple(rows)
    if not has_weight.all():
        raise UsageError(
            f"{ids[int(has_weight.argmin())]} has scores of streams of weight 0 only; "
            "give one of its streams a weight above 0"
        )
    if has_labels.any() and not has_labels.all():
        raise UsageError(f"no file of its scores has labels of {ids[int(has_labels.argmin())]}")
    left_out = dict.fromkeys(key for stream in streams for key in stream.left_out or ())
    return Scores(
        source="+".join(stream.source for stream in streams),
        video_ids=ids,
        values=total,
        positives=positives if has_labels.any() else None,
        left_out=tuple(key for key in left_out if key not in rows),
    )


def _check_videos(stream: Scores, streams: Sequence[Scores], wanted: Collection[str]) -> None:
    """Raise UsageError if a stream lacks videos that it has not left out."""
    there = {*stream.video_ids, *(stream.left_out or ())}
    missing = [video_id for video_id in wanted if video_id not in there]
    if not missing:
        return
    other = next(one for one in streams if missing[0] in one.video_ids)
    hint = ""
    if stream.left_out is None and set(stream.video_ids) <= set(other.video_ids):
        hint = (
            f"; {stream.source} does not name videos without images: if an older flowpipe wrote "
            "it, run the same flowpipe test again, which adds their names and computes nothing"
        )
    raise UsageError(
        f"{stream.source} and {other.source} have different videos: {stream.source} lacks "
        f"{count_noun(len(missing), 'video')}, such as {missing[0]}{hint}"
    )


def _different_labels(stream: Scores, first: Scores) -> UsageError:
    return UsageError(f"{stream.source} and {first.source} have different classes or labels")
