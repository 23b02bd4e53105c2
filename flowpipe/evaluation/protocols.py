"""PROTOCOLS: scores + labels -> the figures that a data set's papers report.

====================== =============================================================================
``accuracy``           UCF101, HMDB51: mean class accuracy, which TSN prints and the papers average
                       over the splits; also overall and top-5 accuracy
``kinetics``           the same figures, overall and top-5 accuracy first
``thumos14``           mean average precision, not interpolated; videos without a class are
                       negatives of every class (``TH14evalRecog``)
``activitynet``        interpolated mean average precision and Hit@3 of the official evaluation
``tsn-map``            mean average precision and Hit@3 as TSN's code computes them, with
                       scikit-learn's average precision: lower than ActivityNet's, and equal to
                       THUMOS14's unless scores tie
====================== =============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe.evaluation.accuracy import class_accuracy, hit_rate
from flowpipe.evaluation.ranking import (
    average_precision,
    interpolated_average_precision,
    tied_average_precision,
)
from flowpipe.words import count_noun

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Result:
    """Figures of one split, shares in [0, 1]."""

    figures: Mapping[str, float]
    """Figures by name; the first is the one that papers report."""
    by_class: FloatArray
    """Accuracy or average precision of each class, (C,); NaN for a class without videos."""


@dataclass(frozen=True)
class Protocol:
    """A row of `PROTOCOLS`."""

    name: str
    evaluate: Callable[[FloatArray, BoolArray], Result]


def _accuracy(scores: FloatArray, positives: BoolArray) -> Result:
    by_class = class_accuracy(scores, positives)
    figures = {
        "mean class accuracy": float(np.nanmean(by_class)),
        "accuracy": hit_rate(scores, positives, 1),
    }
    if scores.shape[1] > 5:  # else every video is a hit
        figures["top-5 accuracy"] = hit_rate(scores, positives, 5)
    return Result(figures, by_class)


def _kinetics(scores: FloatArray, positives: BoolArray) -> Result:
    result = _accuracy(scores, positives)
    order = ("accuracy", "top-5 accuracy", "mean class accuracy")
    return Result(
        {name: result.figures[name] for name in order if name in result.figures}, result.by_class
    )


def _precisions(
    of_class: Callable[[FloatArray, BoolArray], float], scores: FloatArray, positives: BoolArray
) -> FloatArray:
    pairs = zip(scores.T, positives.T, strict=True)
    return np.array([of_class(column, hits) for column, hits in pairs])


def _thumos14(scores: FloatArray, positives: BoolArray) -> Result:
    by_class = _precisions(average_precision, scores, positives)
    return Result({"mAP": float(np.nanmean(by_class))}, by_class)


def _activitynet(scores: FloatArray, positives: BoolArray) -> Result:
    by_class = _precisions(interpolated_average_precision, scores, positives)
    figures = {"mAP": float(np.nanmean(by_class)), "Hit@3": hit_rate(scores, positives, 3)}
    return Result(figures, by_class)


def _tsn_map(scores: FloatArray, positives: BoolArray) -> Result:
    by_class = _precisions(tied_average_precision, scores, positives)
    figures = {"mAP": float(np.nanmean(by_class)), "Hit@3": hit_rate(scores, positives, 3)}
    return Result(figures, by_class)


PROTOCOLS = {
    row.name: row
    for row in (
        Protocol("accuracy", _accuracy),
        Protocol("kinetics", _kinetics),
        Protocol("thumos14", _thumos14),
        Protocol("activitynet", _activitynet),
        Protocol("tsn-map", _tsn_map),
    )
}


def evaluate(protocol: Protocol, scores: FloatArray, positives: BoolArray) -> Result:
    """Compute the figures of one split.

    Parameters
    ----------
    protocol : Protocol
        Row of `PROTOCOLS`.
    scores : float64 (N, C)
        Scores of N videos for C classes.
    positives : bool (N, C)
        True where a class is a label of a video.

    Returns
    -------
    Result
        Figures, shares in [0, 1].

    Raises
    ------
    ValueError
        If the shapes differ or no video has a label.
    """
    if scores.shape != positives.shape or not positives.any():
        raise ValueError(
            f"scores {scores.shape} and labels {positives.shape} must have one shape and at least "
            f"one label, got {count_noun(int(positives.sum()), 'label')}"
        )
    return protocol.evaluate(scores, positives)
