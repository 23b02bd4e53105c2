"""Overlapping intervals of a class + confidences -> confidences lowered by soft-NMS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.evaluation.tiou import temporal_iou

FloatArray = NDArray[np.float64]


def soft_nms(intervals: FloatArray, scores: FloatArray, sigma: float) -> FloatArray:
    """Lower the confidence of intervals that overlap a better one (Bodla et al., ICCV 2017).

    Parameters
    ----------
    intervals : float64 (N, 2)
        Start and end of each, seconds.
    scores : float64 (N,)
        Confidences, 0 or more.
    sigma : float
        Width of the Gaussian: a confidence is multiplied by exp(-tIoU^2 / sigma) for each better
        interval. A smaller sigma suppresses more.

    Returns
    -------
    float64 (N,)
        Lowered confidences, in the order of the intervals.
    """
    lowered = scores.astype(np.float64)
    decay = np.exp(-(temporal_iou(intervals, intervals) ** 2) / sigma)
    waiting = np.ones(len(scores), bool)
    for _ in range(len(scores)):
        best = int(np.argmax(np.where(waiting, lowered, -1.0)))
        waiting[best] = False
        lowered[waiting] *= decay[best, waiting]
    return lowered
