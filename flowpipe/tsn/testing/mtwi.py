"""Scores of snippets of an untrimmed video -> its scores: multi-scale temporal window integration.

Windows of several lengths slide over the snippets. The score of a window is the maximum over its
snippets; the score of a length is the consensus of its windows; the score of the video is the mean
over lengths. Top-k and attention keep background from outweighing a short action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Variant = Literal["code", "paper"]
"""Windows of M-TWI.

``code``: those of the authors' code, which cover the video: the stride is ceil(0.8 l), and windows
at the end are truncated. The scores of a snippet are the maximum over its crops.

``paper``: those of the paper's formula: N = floor(M / 0.8 l) windows, the k-th starting at snippet
floor(0.8 l k). Up to 0.6 l + 1 snippets at the end are in no window. The scores of a snippet are
the mean over its crops.
"""
Consensus = Literal["top_k", "attention", "average", "max"]
"""Rule that combines the windows of one length, per class. ``top_k``: mean of the k highest
scores, k = max(15, N / 4). ``attention``: mean weighted by the softmax, over the windows, of the
relevance of each."""

_LEAST = 15
_SHARE = 4
_STRIDE = 0.8


def starts_at(pts_s: NDArray[np.float64], rate_hz: float) -> NDArray[np.int64]:
    """Choose images at a constant rate, starting with the first.

    Parameters
    ----------
    pts_s : float64 (N,)
        Timestamps of the images, seconds.
    rate_hz : float
        Images per second.

    Returns
    -------
    int64 (M,)
        Numbers of the images.
    """
    wanted = np.arange(pts_s[0], pts_s[-1] + 1e-9, 1 / rate_hz)
    return np.unique(np.searchsorted(pts_s, wanted - 1e-9)).astype(np.int64)


def windows_of(count: int, length: int, variant: Variant = "code") -> list[range]:
    """Cover a video with windows of one length.

    Parameters
    ----------
    count : int
        Number of snippets.
    length : int
        Length of a window, snippets.
    variant : {"code", "paper"}
        Whose windows: those of the authors' code or of the paper.

    Returns
    -------
    list of range
        Snippets of each window.
    """
    if variant == "code":
        starts = list(range(0, count, math.ceil(length * _STRIDE)))
    else:
        windows = max(1, math.floor(count / (_STRIDE * length)))
        starts = [math.floor(k * _STRIDE * length) for k in range(windows)]
    return [range(start, min(start + length, count)) for start in starts]


def aggregate(
    scores: NDArray[np.float64],
    windows: Sequence[int],
    variant: Variant = "code",
    *,
    consensus: Consensus = "top_k",
    top_k: int = 0,
    relevance: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the scores of a video by multi-scale temporal window integration.

    Parameters
    ----------
    scores : float (M, crops, C)
        Scores of its snippets, in the order of time.
    windows : sequence of int
        Lengths of the windows, snippets.
    variant : {"code", "paper"}
        Follow the authors' code or the paper.
    consensus : {"top_k", "attention", "average", "max"}
        How windows are combined.
    top_k : int
        Windows that ``top_k`` averages; 0 for max(15, N / 4).
    relevance : float (M,), optional
        Relevance of each snippet for ``attention``, before softmax. The relevance of a window is
        the maximum over its snippets, which the paper leaves open.

    Returns
    -------
    float64 (C,)
        Scores of the video.
    """
    snippets = scores.max(1) if variant == "code" else scores.mean(1)
    by_length = []
    for length in windows:
        found = windows_of(len(snippets), length, variant)
        best = np.stack([snippets[one.start : one.stop].max(0) for one in found])
        if consensus == "attention":
            assert relevance is not None
            of_windows = [relevance[one.start : one.stop].max() for one in found]
            by_length.append(_weights(np.array(of_windows)) @ best)
        else:
            count = {"average": len(best), "max": 1}.get(consensus, top_k) or _best_of(len(best))
            by_length.append(np.sort(best, 0)[::-1][:count].mean(0))
    made: NDArray[np.float64] = np.mean(by_length, axis=0)
    return made


def _best_of(windows: int) -> int:
    """Return how many windows ``top_k`` averages by default."""
    return max(_LEAST, windows // _SHARE)


def _weights(relevance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax."""
    powers: NDArray[np.float64] = np.exp(relevance - relevance.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares
