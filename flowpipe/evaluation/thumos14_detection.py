"""Detections and instances of a class -> average precision as THUMOS14's toolkits count it.

Both toolkits match in one way. Each ground-truth instance of a video, in the order of the
annotation file, takes the detection with the highest overlap that is still free, if the overlap
exceeds the threshold. The other detections are false positives, unless they overlap an ambiguous
interval.
The toolkits differ in the average precision, and in the order of detections with equal scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from flowpipe.evaluation.instances import ClassDetections, ClassInstances
from flowpipe.evaluation.tiou import overlap_over_hull

FloatArray = NDArray[np.float64]
RECALLS = 0.1 * np.arange(11)
"""Recalls of the interpolation, rounded as ``0:0.1:1`` is in Octave."""


def average_precision(
    found: ClassDetections, truth: ClassInstances, tiou: Sequence[float]
) -> FloatArray:
    """Return the average precision without interpolation, the sum of precisions at matches / npos.

    This is ``TH14evalDet`` of the evaluation kit of 2015, whose figures papers report. Equal scores
    keep the order of the video ids, then that of the file.

    Parameters
    ----------
    found : ClassDetections
        Detections of the class.
    truth : ClassInstances
        Ground truth of the class.
    tiou : sequence of float
        Thresholds that the tIoU must exceed.

    Returns
    -------
    float64 (len(tiou),)
        Average precision at each threshold, in [0, 1].
    """
    return _evaluate(found, truth, tiou, _sum_of_precisions)


def interpolated_average_precision(
    found: ClassDetections, truth: ClassInstances, tiou: Sequence[float]
) -> FloatArray:
    """Return the mean over 11 recalls of the highest precision at that recall or above.

    This is ``TH14evaldet`` of the evaluation kit of 2014. Among equal scores, matches come first.

    Parameters
    ----------
    found : ClassDetections
        Detections of the class.
    truth : ClassInstances
        Ground truth of the class.
    tiou : sequence of float
        Thresholds that the tIoU must exceed.

    Returns
    -------
    float64 (len(tiou),)
        Average precision at each threshold, in [0, 1].
    """
    return _evaluate(found, truth, tiou, _precision_at_recalls)


def _evaluate(
    found: ClassDetections,
    truth: ClassInstances,
    tiou: Sequence[float],
    measure: Callable[[FloatArray, NDArray[np.bool_], int], float],
) -> FloatArray:
    outcomes: list[list[tuple[FloatArray, NDArray[np.bool_]]]] = [[] for _ in tiou]
    for video_id in sorted(found.rows):
        rows = found.rows[video_id]
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        intervals = found.intervals[rows]
        overlap = overlap_over_hull(truth.instances(video_id), intervals)
        ambiguous = overlap_over_hull(truth.ambiguous(video_id), intervals).any(axis=0)
        for outcome, threshold in zip(outcomes, tiou, strict=True):
            matched = _match(overlap, threshold)
            counted = matched | ~ambiguous
            outcome.append((found.scores[rows][counted], matched[counted]))
    precisions = []
    for outcome in outcomes:
        scores = np.concatenate([one for one, _ in outcome] or [np.empty(0)])
        matched = np.concatenate([one for _, one in outcome] or [np.empty(0, bool)])
        precisions.append(measure(scores, matched, truth.count) if matched.any() else 0.0)
    return np.array(precisions)


def _match(overlap: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Return which detections an instance takes.

    Parameters
    ----------
    overlap : float64 (instances, detections)
        Overlaps, the detections by decreasing score.
    threshold : float

    Returns
    -------
    bool (detections,)
    """
    matched = np.zeros(overlap.shape[1], bool)
    for row in overlap:
        best = int(np.argmax(np.where(matched, -1.0, row)))
        if not matched[best] and row[best] > threshold:
            matched[best] = True
    return matched


def _sum_of_precisions(scores: FloatArray, matched: NDArray[np.bool_], npos: int) -> float:
    hits = matched[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].sum() / npos)


def _precision_at_recalls(scores: FloatArray, matched: NDArray[np.bool_], npos: int) -> float:
    hits = matched[np.lexsort((~matched, -scores))]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    recall = np.cumsum(hits) / npos
    highest = [precision[recall >= at].max(initial=0.0) for at in RECALLS]
    return float(np.sum(highest) / len(RECALLS))
