"""Scores + labels -> top-k accuracy, overall, and accuracy by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_classes(scores: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Return the classes of the `k` highest scores of each video.

    Parameters
    ----------
    scores : float (N, C)
        Scores of N videos for C classes.
    k : int
        Number of classes to return.

    Returns
    -------
    intp (N, min(k, C))
        Highest score first; ties are broken by the lower class, as in `numpy.argmax`.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def hit_rate(scores: NDArray[np.floating], positives: NDArray[np.bool_], k: int) -> float:
    """Return the share of labelled videos with a label among their `k` highest classes: Hit@k.

    Parameters
    ----------
    scores : float (N, C)
        Scores of N videos for C classes.
    positives : bool (N, C)
        True where a class is a label of a video. Videos without labels do not count.
    k : int
        Number of classes that count.

    Returns
    -------
    float
        Share in [0, 1]; NaN if no video has a label.

    Notes
    -----
    With one label per video this is the top-k accuracy. ActivityNet's evaluation
    (``compute_video_hit_at_k``) and TSN's ``top_k_accuracy`` count the same way.
    """
    labelled = positives.any(axis=1)
    if not labelled.any():
        return float("nan")
    chosen = top_classes(scores[labelled], k)
    return float(np.take_along_axis(positives[labelled], chosen, axis=1).any(axis=1).mean())


def class_accuracy(
    scores: NDArray[np.floating], positives: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return for each class the share of its videos whose highest score is that class.

    Parameters
    ----------
    scores : float (N, C)
        Scores of N videos for C classes.
    positives : bool (N, C)
        True where a class is a label of a video.

    Returns
    -------
    float64 (C,)
        NaN for a class without videos; TSN's ``mean_class_accuracy`` fails there. The mean over
        the other classes is the figure that TSN reports.
    """
    chosen = np.zeros_like(positives)
    chosen[np.arange(len(scores)), top_classes(scores, 1)[:, 0]] = True
    counts = positives.sum(axis=0)
    hits = (chosen & positives).sum(axis=0)
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
