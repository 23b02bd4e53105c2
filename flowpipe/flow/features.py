"""Gray frame -> Features: keypoints with descriptors, and corners, to estimate camera motion.

Features are computed once per frame and shared by the two pairs of the frame.
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
from flowpipe.flow.contrib import why_no_contrib
from flowpipe.ops import Keypoints, Ops, Points, own_features
from flowpipe.ops.reference_features import opencv_keypoints

Detector = Callable[[Any, NDArray[np.uint8] | None], list[Keypoints]]
"""Gray frames uint8 (N, H, W) on the device, masks uint8 (N, H, W) or None on the host -> keypoints
where the mask is not 0; none for frames under 16 pixels a side."""


@dataclass(frozen=True)
class Features(Keypoints):
    """Keypoints and corners of one frame, outside its masked boxes."""

    corners: Points
    """(C, 2) corners to follow with the flow, best first."""


def _akaze(ops: Ops) -> Detector:
    # Upright, one scale: rotation and scale hardly change between consecutive frames. This takes a
    # quarter of the time of the defaults and is as accurate up to 10 % of zoom and 6 degrees of
    # rotation; the lower threshold restores the number of keypoints.
    return ops.features.akaze


def _sift(ops: Ops) -> Detector:
    return partial(_on_host, ops, cv2.SIFT.create())


def _orb(ops: Ops) -> Detector:
    return partial(_on_host, ops, cv2.ORB.create(nfeatures=1000, nlevels=4))


def _on_host(ops: Ops, detector: Any, gray: Any, mask: NDArray[np.uint8] | None) -> list[Keypoints]:
    return opencv_keypoints(detector, ops.to_host(gray), mask)


def _why_no_akaze(own: bool) -> str:
    if own:
        return ""
    names = "AKAZE_create", "xfeatures2d.AKAZE_create"
    return why_no_contrib("warp.detector akaze", names, "warp.detector=sift or orb")


class DetectorRow(NamedTuple):
    """One keypoint detector."""

    make: Callable[[Ops], Detector]
    """Return a new detector."""
    why_not: Callable[[bool], str] = lambda own: ""
    """Return what the installed OpenCV lacks and what to do, or "", given
    `flowpipe.ops.FeatureOps.own` of the device."""


DETECTORS: dict[str, DetectorRow] = {
    "akaze": DetectorRow(_akaze, _why_no_akaze),
    "sift": DetectorRow(_sift),
    "orb": DetectorRow(_orb),
}
"""Keypoint detectors by name. OpenCV 5 has AKAZE in its contrib modules; only devices without
flowpipe's own AKAZE need them."""


def why_no_detector(name: str, device: str) -> str:
    """Explain what the installed OpenCV lacks for a detector. Opens no GPU.

    Parameters
    ----------
    name : str
        A key of `DETECTORS`.
    device : str
        Device that computes.

    Returns
    -------
    str
        What is lacking and what to do; "" if the detector can run.
    """
    return DETECTORS[name].why_not(own_features(device))


def make_detector(name: str, ops: Ops) -> Detector:
    """Return a detector.

    Parameters
    ----------
    name : str
        A key of `DETECTORS`.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    Detector
        Function of gray frames to keypoints.

    Raises
    ------
    BackendError
        If the installed OpenCV lacks it.
    """
    row = DETECTORS[name]
    if why := row.why_not(ops.features.own):
        raise BackendError(why)
    return row.make(ops)


def match_in_window(
    ops: Ops, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
) -> list[tuple[Points, Points]]:
    """Match every keypoint of the second frame of each pair to the most similar one of the first.

    Only keypoints less than `window_px` apart in x and in y are compared. As in improved
    trajectories (Wang and Schmid 2013) there is no ratio test and no cross check: RANSAC rejects
    wrong matches. Among equally similar keypoints the first is chosen.

    Parameters
    ----------
    ops : Ops
        Backend that computes.
    pairs : sequence of (first, second)
        Keypoints of both frames.
    window_px : float
        Largest distance of matches in x and in y, pixels.

    Returns
    -------
    list of (in_first, in_second)
        Matched points, float32 (M, 2) each; M <= number of keypoints of the second frame.
    """
    matches = []
    found = ops.features.match_keypoints(pairs, window_px)
    for (first, second), best in zip(pairs, found, strict=True):
        matched = best >= 0
        matches.append((first.points[best[matched]], second.points[matched]))
    return matches
