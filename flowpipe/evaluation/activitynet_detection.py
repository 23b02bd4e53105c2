"""Detections and instances of a class -> average precision as ActivityNet's code counts it.

Each detection, in the order of decreasing scores, takes the ground-truth instance of its video with
the highest tIoU that is still free and reaches the threshold. It is a false positive if there is
none. The average precision is interpolated at all recalls (VOC 2011).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowpipe.evaluation.instances import ClassDetections, ClassInstances
from flowpipe.evaluation.tiou import temporal_iou

FloatArray = NDArray[np.float64]


def average_precision(
    found: ClassDetections, truth: ClassInstances, tiou: Sequence[float]
) -> FloatArray:
    """Return the interpolated average precision of a class.

    Parameters
    ----------
    found : ClassDetections
        Detections of the class.
    truth : ClassInstances
        Ground truth of the class.
    tiou : sequence of float
        Thresholds that the tIoU must reach.

    Returns
    -------
    float64 (len(tiou),)
        Average precision at each threshold, in [0, 1].

    Notes
    -----
    Equal scores are ordered by NumPy's unstable sort, as in ``compute_average_precision_detection``
    of the official code. Its sample file, where all scores are 1, has the official figure so.
    """
    thresholds = np.asarray(tiou, np.float64)
    order = found.scores.argsort()[::-1]
    overlap = {
        video_id: temporal_iou(found.intervals[rows], truth.instances(video_id))
        for video_id, rows in found.rows.items()
        if len(truth.instances(video_id))
    }
    position = {  # of a row among those of its video
        int(row): (video_id, k)
        for video_id in overlap
        for k, row in enumerate(found.rows[video_id])
    }
    taken = {
        video_id: np.zeros((len(thresholds), o.shape[1]), bool) for video_id, o in overlap.items()
    }
    hits = np.zeros((len(thresholds), len(order)), bool)
    for rank, row in enumerate(order.tolist()):
        if row not in position:
            continue
        video_id, k = position[row]
        values = overlap[video_id][k]
        if values.max() < thresholds.min():
            continue
        for instance in values.argsort()[::-1]:
            free = ~hits[:, rank] & ~taken[video_id][:, instance] & (values[instance] >= thresholds)
            taken[video_id][free, instance] = True
            hits[free, rank] = True
    return np.array([_integrate(row, truth.count) for row in hits])


def _integrate(hits: NDArray[np.bool_], npos: int) -> float:
    """Return the area below the precision envelope; recall grows by 1 / npos at every match."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / npos)
