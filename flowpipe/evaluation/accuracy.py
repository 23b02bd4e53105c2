"""Scores + labels -> accuracy, overall and by class, and hits among the best few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best(scores: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Classes of the `k` highest scores of each video.

    Parameters
    ----------
    scores : float (N, C)
    k : int

    Returns
    -------
    intp (N, min(k, C))
        Best first; of equal scores the lower class comes first, as in `numpy.argmax`.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def hit_rate(scores: NDArray[np.floating], positives: NDArray[np.bool_], k: int) -> float:
    """Share of the labelled videos of which a label is among the `k` best: top-k accuracy, Hit@k.

    Parameters
    ----------
    scores : float (N, C)
    positives : bool (N, C)
        Whether a class is a label of a video. Videos without labels do not count.

    Returns
    -------
    float
        NaN where no video has a label.

    Notes
    -----
    With one label a video this is the top-k accuracy; ActivityNet's evaluation
    (``compute_video_hit_at_k``) and TSN's ``top_k_accuracy`` count the same way.
    """
    labelled = positives.any(axis=1)
    if not labelled.any():
        return float("nan")
    chosen = best(scores[labelled], k)
    return float(np.take_along_axis(positives[labelled], chosen, axis=1).any(axis=1).mean())


def class_accuracy(
    scores: NDArray[np.floating], positives: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Share of each class's videos whose best score is that class.

    Parameters
    ----------
    scores : float (N, C)
    positives : bool (N, C)

    Returns
    -------
    float64 (C,)
        NaN for a class without videos, at which TSN's ``mean_class_accuracy`` fails. Its mean over
        the others is the figure that TSN reports.
    """
    chosen = np.zeros_like(positives)
    chosen[np.arange(len(scores)), best(scores, 1)[:, 0]] = True
    counts = positives.sum(axis=0)
    hits = (chosen & positives).sum(axis=0)
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
