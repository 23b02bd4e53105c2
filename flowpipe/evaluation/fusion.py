"""Scores of several streams -> their weighted sum, before any softmax, as TSN fuses them."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def lacking_videos(streams: Sequence[Scores], partial: Sequence[bool]) -> list[int]:
    """Count the videos that each stream lacks and that are fused without it.

    Parameters
    ----------
    streams : sequence of Scores
        Scores of the streams.
    partial : sequence of bool
        See `fuse`.

    Returns
    -------
    list of int
        Number of videos by stream.
    """
    whole = set(_first_whole(streams, partial).video_ids)
    return [len(whole - set(stream.video_ids)) for stream in streams]


def _first_whole(streams: Sequence[Scores], partial: Sequence[bool]) -> Scores:
    """Return the first stream that has all videos; the first one if all are partial."""
    pairs = zip(streams, partial, strict=True)
    return next((stream for stream, lacks in pairs if not lacks), streams[0])


def fuse(
    streams: Sequence[Scores], weights: Sequence[float], partial: Sequence[bool] = ()
) -> Scores:
    """Return the weighted sum of the scores of each video.

    Parameters
    ----------
    streams : sequence of Scores
        Scores of the same videos, in any order.
    weights : sequence of float
        Weight of each stream, 0 or more and at least one above 0.
    partial : sequence of bool, optional
        Whether each stream may lack videos, as one of sound lacks silent films; default: none may.
        The sum of such a video has only the other streams.

    Returns
    -------
    Scores
        The sum, with the videos in the order of the first stream that must have all.

    Raises
    ------
    UsageError
        If the weights are not such, or the streams have different videos, classes or labels.
    """
    partial = partial or (False,) * len(streams)
    first = _first_whole(streams, partial)
    if (
        len(weights) != len(streams)
        or not all(0 <= weight < math.inf for weight in weights)
        or not any(weights)
    ):
        raise UsageError(
            f"wanted {count_noun(len(streams), 'weight')} from 0 up, one of them above 0, got "
            f"{list(weights)}"
        )
    total = np.zeros_like(first.values)
    rows = {video_id: k for k, video_id in enumerate(first.video_ids)}
    scored = np.zeros(len(first.video_ids), bool)
    for stream, weight, lacks in zip(streams, weights, partial, strict=True):
        different = set(stream.video_ids) ^ set(first.video_ids)
        if lacks:
            different = set(stream.video_ids) - set(first.video_ids)
        if different:
            raise UsageError(
                f"{stream.source} and {first.source} have different videos: "
                f"{count_noun(len(different), 'video')} in only one of them, such as "
                f"{min(different)}"
            )
        order = [rows[video_id] for video_id in stream.video_ids]
        if stream.values.shape[1] != first.values.shape[1] or not (
            first.positives is None
            or stream.positives is None
            or np.array_equal(stream.positives, first.positives[order])
        ):
            raise UsageError(f"{stream.source} and {first.source} have different classes or labels")
        total[order] += weight * stream.values
        scored[order] |= weight > 0
    if not scored.all():
        raise UsageError(
            f"{first.video_ids[int(np.argmin(scored))]} has scores of streams of weight 0 only; "
            "give one of its streams a weight above 0"
        )
    return replace(first, source="+".join(s.source for s in streams), values=total)
