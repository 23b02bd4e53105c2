"""Two sets of intervals -> their temporal intersection over union (tIoU)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def temporal_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the length of the intersection divided by the length of the union.

    Parameters
    ----------
    first : float64 (N, 2)
        Start and end of each interval.
    second : float64 (M, 2)
        Start and end of each interval.

    Returns
    -------
    float64 (N, M)
        0 for intervals that do not overlap, and 1 for two points, wherever they are.

    Notes
    -----
    The union is the sum of both lengths less the intersection, as in ActivityNet's ``segment_iou``,
    so that values on a threshold are rounded like the official ones. Two points are 0 / 0 there,
    which its evaluation treats as a match.
    """
    shared = _intersection(first, second)
    lengths = np.diff(second)[:, 0] + np.diff(first)  # in this order, as there
    union = lengths - shared
    return np.divide(shared, union, out=np.ones_like(union), where=union > 0)


def overlap_over_hull(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the length of the intersection divided by the length from first start to last end.

    This equals `temporal_iou` for intervals that overlap, but for rounding, and is what THUMOS14's
    ``intervaloverlapvalseconds`` computes.

    Parameters
    ----------
    first : float64 (N, 2)
        Start and end of each interval.
    second : float64 (M, 2)
        Start and end of each interval.

    Returns
    -------
    float64 (N, M)
        0 for intervals that do not overlap.
    """
    shared = _intersection(first, second)
    start = np.minimum(first[:, None, 0], second[None, :, 0])
    hull = np.maximum(first[:, None, 1], second[None, :, 1]) - start
    ratio: FloatArray = np.divide(shared, hull, out=np.zeros_like(hull), where=shared > 0)
    return ratio


def _intersection(first: FloatArray, second: FloatArray) -> FloatArray:
    start = np.maximum(first[:, None, 0], second[None, :, 0])
    shared: FloatArray = np.minimum(first[:, None, 1], second[None, :, 1]) - start
    return shared.clip(0)
