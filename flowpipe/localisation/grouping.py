"""Scores of one class along a video + thresholds -> proposals: consecutive rows above them.

Example with three thresholds; the highest one gives two proposals::

    score  . . . . . . 9 . . . . . .
           . . . 8 . . 9 . . . . . .
           . . . 8 . 7 9 6 . . . . .      threshold 7.5: row 3, row 6
           . . 4 8 5 7 9 6 3 . . . .      threshold 4.5: rows 3 to 7
           1 1 4 8 5 7 9 6 3 2 1 1 1      threshold 2.5: rows 2 to 8
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def group_rows(scores: FloatArray, thresholds: Sequence[float]) -> NDArray[np.intp]:
    """Return the proposals: consecutive rows whose scores exceed each threshold.

    Parameters
    ----------
    scores : float64 (R,)
        Scores of one class, in the order of time.
    thresholds : sequence of float
        Shares of the range of the scores of this video, in [0, 1): 0 is the lowest score, 1 the
        highest.

    Returns
    -------
    intp (N, 2)
        First row and the row after the last of each proposal, without repetitions, sorted. A video
        whose scores are all equal is one proposal.
    """
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        return np.array([[0, len(scores)]], np.intp)
    found = [_find_true(scores > low + share * (high - low)) for share in thresholds]
    return np.unique(np.concatenate(found), axis=0)


def smooth_rows(scores: FloatArray, rows: int) -> FloatArray:
    """Return the moving average of scores.

    Parameters
    ----------
    scores : float64 (R, C)
        Scores in the order of time.
    rows : int
        Rows that an average is taken over, an odd number; fewer at the ends of the video.

    Returns
    -------
    float64 (R, C)
        Averages centred on each row.
    """
    half = rows // 2
    if half < 1:
        return scores
    sums = np.vstack([np.zeros(scores.shape[1]), np.cumsum(scores, axis=0)])
    at = np.arange(len(scores))
    first, stop = np.maximum(at - half, 0), np.minimum(at + half + 1, len(scores))
    averages: FloatArray = (sums[stop] - sums[first]) / (stop - first)[:, None]
    return averages


def _find_true(above: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the first and the stop of all ranges of consecutive True values, (N, 2)."""
    edges = np.flatnonzero(np.diff(above.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).astype(np.intp)
