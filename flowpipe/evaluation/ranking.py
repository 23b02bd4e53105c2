"""Scores of a class + labels -> average precision, by three definitions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating], positives: NDArray[np.bool_]) -> float:
    """Return the average precision without interpolation: the mean precision at the positives.

    This is the definition of THUMOS14 (``TH14evalRecog_clspr``). Equal scores keep the order of
    the videos, as in MATLAB's `sort`.

    Parameters
    ----------
    scores : float (N,)
        Scores of N videos for one class.
    positives : bool (N,)
        True where the class is a label of the video.

    Returns
    -------
    float
        Share in [0, 1]; NaN where no video is positive.
    """
    hits = _rank(scores, positives)
    if not hits.any():
        return float("nan")
    return float(_precision(hits)[hits].mean())


def interpolated_average_precision(
    scores: NDArray[np.floating], positives: NDArray[np.bool_]
) -> float:
    """Return the area under the interpolated precision-recall curve, at all recalls (VOC 2011).

    This is the definition of ActivityNet (``interpolated_prec_rec``). Equal scores keep the order
    of the videos; ActivityNet's code leaves their order to an unstable sort.

    Parameters
    ----------
    scores : float (N,)
        Scores of N videos for one class.
    positives : bool (N,)
        True where the class is a label of the video.

    Returns
    -------
    float
        Share in [0, 1]; NaN where no video is positive.
    """
    hits = _rank(scores, positives)
    if not hits.any():
        return float("nan")
    envelope = np.maximum.accumulate(_precision(hits)[::-1])[::-1]
    return float(envelope[hits].mean())  # recall grows by 1 / npos at every positive


def tied_average_precision(scores: NDArray[np.floating], positives: NDArray[np.bool_]) -> float:
    """Return the sum over distinct scores of the precision times the increase in recall.

    This is scikit-learn's ``average_precision_score``, which TSN's ``video_mean_ap`` calls. Videos
    with equal scores count together, so their order does not matter.

    Parameters
    ----------
    scores : float (N,)
        Scores of N videos for one class.
    positives : bool (N,)
        True where the class is a label of the video.

    Returns
    -------
    float
        Share in [0, 1]; NaN where no video is positive.
    """
    order = np.argsort(-scores, kind="stable")
    hits, ranked = positives[order], scores[order]
    if not hits.any():
        return float("nan")
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each distinct score
    found = np.cumsum(hits)[last]
    return float(np.sum(np.diff(found, prepend=0) * found / (last + 1)) / hits.sum())


def mean_average_precision(scores: NDArray[np.floating], positives: NDArray[np.bool_]) -> float:
    """Return the mean of `tied_average_precision` over the classes that some video has.

    Parameters
    ----------
    scores : float (N, C)
        Scores of N videos for C classes.
    positives : bool (N, C)
        True where a class is a label of a video.

    Returns
    -------
    float
        Share in [0, 1]; NaN where no video has a label.
    """
    known = [
        tied_average_precision(scores[:, k], positives[:, k])
        for k in np.flatnonzero(positives.any(0))
    ]
    return float(np.mean(known)) if known else float("nan")


def _rank(scores: NDArray[np.floating], positives: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return positives[np.argsort(-scores, kind="stable")]


def _precision(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the precision at each rank, float64 (N,)."""
    return np.cumsum(hits) / np.arange(1, len(hits) + 1)
