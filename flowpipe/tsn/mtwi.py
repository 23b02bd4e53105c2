"""Scores of snippets of an untrimmed video -> its scores: multi-scale temporal window integration.

Windows of several lengths slide over the snippets; a window says the maximum of its snippets, a
length the mean of its best windows, the video the mean over lengths. Background never wins, because
only the best windows count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Variant = Literal["paper", "code"]
"""``paper``: N = floor(M / 0.8 l) windows of length l, the k-th from snippet floor(0.8 l k) on, of
scores that are means over crops. ``code``, the authors': strides of ceil(0.8 l) to the last
snippet, of scores that are maxima over crops. Of both the best max(15, N / 4) windows count."""

_LEAST = 15
_SHARE = 4
_STRIDE = 0.8


def starts_at(pts_s: NDArray[np.float64], rate_hz: float) -> NDArray[np.int64]:
    """Images at a rate by time, the first one included: int64 (M,)."""
    wanted = np.arange(pts_s[0], pts_s[-1] + 1e-9, 1 / rate_hz)
    return np.unique(np.searchsorted(pts_s, wanted - 1e-9)).astype(np.int64)


def aggregate(
    scores: NDArray[np.float64], windows: Sequence[int], variant: Variant = "paper"
) -> NDArray[np.float64]:
    """Scores of a video.

    Parameters
    ----------
    scores : float (M, crops, C)
        Of snippets in the order of time.
    windows : sequence of int
        Lengths in snippets.
    variant : "paper" or "code"

    Returns
    -------
    float64 (C,)
    """
    snippets = scores.max(1) if variant == "code" else scores.mean(1)
    return np.mean([_of_length(snippets, length, variant) for length in windows], axis=0)


def _of_length(snippets: NDArray[np.float64], length: int, variant: Variant) -> NDArray[np.float64]:
    """The mean of the best windows of one length, each class by itself."""
    count = len(snippets)
    if variant == "code":
        step = math.ceil(length * _STRIDE)
        starts = list(range(0, count, step))
        best_of = max(_LEAST, len(starts) // _SHARE)
    else:
        windows = max(1, math.floor(count / (_STRIDE * length)))
        starts = [math.floor(k * _STRIDE * length) for k in range(windows)]
        best_of = max(_LEAST, windows // _SHARE)
    found = np.stack([snippets[start : start + length].max(0) for start in starts])
    found.sort(0)
    best: NDArray[np.float64] = found[::-1][:best_of].mean(0)
    return best
