"""Gray frame -> Features: keypoints with descriptors, and corners, as camera motion needs them.

Found once per frame and shared by the two pairs that the frame belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendError
from flowpipe.flow.contrib import contrib_lack
from flowpipe.ops import Keypoints, Ops, Points, own_features
from flowpipe.ops.reference_features import opencv_keypoints

Detector = Callable[[Any, NDArray[np.uint8] | None], list[Keypoints]]
"""Gray frames (N, H, W), where the backend computes, and masks (N, H, W), or None, on the host ->
keypoints outside the places where a mask is 0; none for frames under 16 pixels a side."""


@dataclass(frozen=True)
class Features(Keypoints):
    """Keypoints and corners of one frame, outside its masked boxes."""

    corners: Points
    """(C, 2) corners that are good to follow with flow, best first."""


def _akaze(ops: Ops) -> Detector:
    # Upright and of one scale: between consecutive frames turn and scale hardly change. A quarter
    # of the time of the defaults, as accurate up to 10 % of zoom and 6 degrees of turn; the lower
    # threshold gives the keypoints back.
    return ops.features.akaze


def _sift(ops: Ops) -> Detector:
    return partial(_on_host, ops, cv2.SIFT.create())


def _orb(ops: Ops) -> Detector:
    return partial(_on_host, ops, cv2.ORB.create(nfeatures=1000, nlevels=4))


def _on_host(ops: Ops, detector: Any, gray: Any, mask: NDArray[np.uint8] | None) -> list[Keypoints]:
    return opencv_keypoints(detector, ops.to_host(gray), mask)


def _akaze_lack(own: bool) -> str:
    if own:
        return ""
    names = "AKAZE_create", "xfeatures2d.AKAZE_create"
    return contrib_lack("warp.detector akaze", names, "warp.detector=sift or orb")


class DetectorRow(NamedTuple):
    """One keypoint detector."""

    make: Callable[[Ops], Detector]
    """Returns a new detector."""
    lack: Callable[[bool], str] = lambda own: ""
    """Returns what the installed OpenCV lacks for it and what to do; empty if it lacks nothing.
    Takes `flowpipe.ops.FeatureOps.own` of the device."""


DETECTORS: dict[str, DetectorRow] = {
    "akaze": DetectorRow(_akaze, _akaze_lack),
    "sift": DetectorRow(_sift),
    "orb": DetectorRow(_orb),
}
"""Keypoint detectors by name. OpenCV 5 has AKAZE in its contrib modules, which only devices without
an AKAZE of flowpipe's own need."""


def detector_lack(name: str, device: str) -> str:
    """Return what the installed OpenCV lacks for a detector of `DETECTORS` on a device and what to
    do; empty if it lacks nothing. Opens no GPU."""
    return DETECTORS[name].lack(own_features(device))


def make_detector(name: str, ops: Ops) -> Detector:
    """Return a detector of `DETECTORS`; BackendError if the installed OpenCV lacks it."""
    row = DETECTORS[name]
    if lack := row.lack(ops.features.own):
        raise BackendError(lack)
    return row.make(ops)


def match_in_window(
    ops: Ops, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
) -> list[tuple[Points, Points]]:
    """Match every keypoint of the second frame of each pair to the most similar one of the first.

    Only keypoints less than `window_px` away in x and in y are compared. There is no ratio and no
    cross check (improved trajectories, Wang and Schmid 2013): RANSAC sorts out what is wrong. Of
    equally similar ones the first wins.

    Returns
    -------
    list of (in_first, in_second), float32 (M, 2) each
        M <= number of keypoints of the second frame.
    """
    matches = []
    found = ops.features.match_keypoints(pairs, window_px)
    for (first, second), best in zip(pairs, found, strict=True):
        matched = best >= 0
        matches.append((first.points[best[matched]], second.points[matched]))
    return matches
