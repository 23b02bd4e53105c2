"""Fused scores along videos -> intervals: thresholds, proposals, soft-NMS.

The streams' mean is divided by a temperature. The scores of a row are its softmax. The scores of a
video are the softmax of its multi-scale temporal window integration (M-TWI). For the best classes
of a video:

1. Scores along the video are smoothed by a moving average.
2. Consecutive rows above a threshold are a proposal, which becomes an interval. A row extends to
   the middle between its centre and its neighbour's; the first and the last row to the ends of
   their windows.
3. The confidence of an interval is the score of the video times that of the proposal.
4. Soft-NMS lowers the confidence of intervals that overlap a better one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.evaluation.detections import Detections
from flowpipe.evaluation.fusion import sigmoid, softmax
from flowpipe.features import Windows
from flowpipe.localisation.grouping import group_rows, smooth_rows
from flowpipe.localisation.soft_nms import soft_nms
from flowpipe.localisation.streams import FusedScores
from flowpipe.tsn.testing.mtwi import aggregate, starts_at

FloatArray = NDArray[np.float64]
ProposalScore = Literal["contrast", "mean", "peak"]


@dataclass(frozen=True, kw_only=True)
class LocalisationParams:
    """Settings of the localisation."""

    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Thresholds, shares of the range of a class's scores in the video, each in [0, 1)."""
    smooth_s: float = 2.0
    """Length of the moving average, seconds; 0 for none."""
    temperature: float = 5.0
    """Divisor of the scores before the softmax. Networks trained on short clips give a class a
    high score in the background too; a temperature above 1 keeps the softmax from saturating."""
    proposal_score: ProposalScore = "contrast"
    """Score of a proposal, a key of `PROPOSAL_SCORES`."""
    classes: int = 5
    """Best classes of a video that are localised."""
    sigma: float = 0.5
    """Width of the Gaussian of soft-NMS."""
    most: int = 200
    """Largest number of intervals of a video."""
    rate_hz: float = 1.0
    """Rows per second of M-TWI."""
    windows: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Lengths of the windows of M-TWI, rows."""

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0 <= one < 1 for one in self.thresholds):
            raise UsageError(
                "thresholds must be shares from 0 to below 1, such as 0.2,0.5, got "
                f"{', '.join(f'{one:g}' for one in self.thresholds) or 'none'}"
            )


def mean_score(scores: FloatArray, first: int, stop: int) -> float:
    """Return the mean over a proposal.

    Parameters
    ----------
    scores : float64 (R,)
        Scores of one class along the video.
    first, stop : int
        First row of the proposal, and the row after its last.

    Returns
    -------
    float
        Mean score.
    """
    return float(scores[first:stop].mean())


def peak_score(scores: FloatArray, first: int, stop: int) -> float:
    """Return the highest score in a proposal.

    Parameters
    ----------
    scores : float64 (R,)
        Scores of one class along the video.
    first, stop : int
        First row of the proposal, and the row after its last.

    Returns
    -------
    float
        Highest score.
    """
    return float(scores[first:stop].max())


def contrast_score(scores: FloatArray, first: int, stop: int) -> float:
    """Return the mean over a proposal less that over a quarter of its length on either side.

    This is the outer-inner contrast of AutoLoc (Shou et al., ECCV 2018). It prefers the proposal
    that ends where the scores fall.

    Parameters
    ----------
    scores : float64 (R,)
        Scores of one class along the video.
    first, stop : int
        First row of the proposal, and the row after its last.

    Returns
    -------
    float
        Difference, 0 at least; the mean for a proposal that is the whole video.
    """
    margin = max(1, round((stop - first) / 4))
    outside = np.concatenate([scores[max(0, first - margin) : first], scores[stop : stop + margin]])
    inside = float(scores[first:stop].mean())
    return max(0.0, inside - float(outside.mean())) if len(outside) else inside


PROPOSAL_SCORES: Mapping[str, Callable[[FloatArray, int, int], float]] = {
    "contrast": contrast_score,
    "mean": mean_score,
    "peak": peak_score,
}
"""Name -> function from the scores of a class, the first row and the row after the last."""


def localise_file(
    fused: FusedScores, video_ids: list[str], params: LocalisationParams
) -> Detections:
    """Return the intervals of some videos of a file of features.

    Parameters
    ----------
    fused : FusedScores
        Streams and their weights.
    video_ids : list of str
        Videos of the file, each with rows in a stream.
    params : LocalisationParams
        Settings.

    Returns
    -------
    Detections
        Intervals in the order of the videos, the best of a video first.

    Raises
    ------
    FormatError
        If the file is damaged.
    UsageError
        If a score is not finite.
    """
    ids: list[str] = []
    rows: list[tuple[NDArray[np.intp], FloatArray, FloatArray]] = []
    for video_id in video_ids:
        found = localise_video(
            fused.of_video(video_id), fused.file.windows(video_id), params, by_class=fused.by_class
        )
        ids += [video_id] * len(found[0])
        rows.append(found)
    labels, intervals, scores = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Detections(str(fused.file.path), tuple(ids), labels, intervals, scores)


def localise_video(
    scores: FloatArray, windows: Windows, params: LocalisationParams, *, by_class: bool = False
) -> tuple[NDArray[np.intp], FloatArray, FloatArray]:
    """Return the intervals of one video.

    Parameters
    ----------
    scores : float64 (R, C)
        Scores of its rows, before softmax.
    windows : Windows
        Windows of the rows.
    params : LocalisationParams
        Settings.
    by_class : bool
        True to take the sigmoid of each score instead of the softmax, for networks trained with
        binary cross-entropy.

    Returns
    -------
    labels : intp (N,)
        Class of each interval.
    intervals : float64 (N, 2)
        Start and end, seconds.
    confidences : float64 (N,)
        Confidence, decreasing and above 0.
    """
    to_shares = sigmoid if by_class else softmax
    scores = scores / params.temperature
    centre_s = windows.centre_s
    chosen = starts_at(centre_s, params.rate_hz)
    of_video = to_shares(aggregate(scores[chosen, None], params.windows))
    along = smooth_rows(to_shares(scores), _rows_of(params.smooth_s, centre_s))
    middle = (centre_s[1:] + centre_s[:-1]) / 2
    edges = np.concatenate([windows.start_s[:1], middle, windows.end_s[-1:]])
    found = []
    for label in np.argsort(-of_video, kind="stable")[: params.classes].tolist():
        proposals = group_rows(along[:, label], params.thresholds)
        of_proposal = PROPOSAL_SCORES[params.proposal_score]
        shares = np.array(
            [of_proposal(along[:, label], first, stop) for first, stop in proposals.tolist()]
        )
        intervals = edges[proposals]
        confidences = soft_nms(intervals, of_video[label] * shares, params.sigma)
        found.append((np.full(len(proposals), label, np.intp), intervals, confidences))
    labels, intervals, confidences = (np.concatenate(column) for column in zip(*found, strict=True))
    best = np.argsort(-confidences, kind="stable")[: params.most]
    best = best[confidences[best] > 0]
    return labels[best], intervals[best], confidences[best]


def _rows_of(seconds: float, centre_s: FloatArray) -> int:
    """Return the odd number of rows that is nearest to a duration."""
    if len(centre_s) < 2:
        return 1
    stride_s = float(np.median(np.diff(centre_s)))
    return 2 * round((seconds / stride_s - 1) / 2) + 1 if seconds > stride_s else 1
