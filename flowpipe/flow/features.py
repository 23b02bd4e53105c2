"""Gray frame -> Features: keypoints with descriptors, and corners, as camera motion needs them.

Found once per frame and shared by the two pairs that the frame belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendError
from flowpipe.flow.contrib import contrib_lack
from flowpipe.ops import Points, feature_ops
from flowpipe.ops.reference_features import opencv_keypoints

Detector = Callable[[NDArray[np.uint8], NDArray[np.uint8] | None], tuple[Points, NDArray[Any]]]
"""Frame (H, W) and mask -> keypoints and descriptors, as `find_keypoints` returns them."""


@dataclass(frozen=True)
class Features:
    """What is found in one frame, outside its masked boxes."""

    points: Points
    """(K, 2) positions of the keypoints."""
    descriptors: NDArray[Any]
    """(K, B): uint64 words of bits, compared by Hamming distance, or float32, by Euclidean."""
    corners: Points
    """(C, 2) corners that are good to follow with flow, best first."""


def _akaze() -> Detector:
    # Upright and of one scale: between consecutive frames turn and scale hardly change. A quarter
    # of the time of the defaults, as accurate up to 10 % of zoom and 6 degrees of turn; the lower
    # threshold gives the keypoints back.
    return feature_ops().akaze


def _akaze_lack() -> str:
    names = "AKAZE_create", "xfeatures2d.AKAZE_create"
    return contrib_lack("warp.detector akaze", names, "warp.detector=sift or orb")


class DetectorRow(NamedTuple):
    """One keypoint detector."""

    make: Callable[[], Detector]
    """Returns a new detector."""
    lack: Callable[[], str] = str
    """Returns what the installed OpenCV lacks for it and what to do; empty if it lacks nothing."""


DETECTORS: dict[str, DetectorRow] = {
    "akaze": DetectorRow(_akaze, _akaze_lack),
    "sift": DetectorRow(lambda: partial(opencv_keypoints, cv2.SIFT.create())),
    "orb": DetectorRow(
        lambda: partial(opencv_keypoints, cv2.ORB.create(nfeatures=1000, nlevels=4))
    ),
}
"""Keypoint detectors by name; OpenCV 5 has moved AKAZE to its contrib modules."""


def make_detector(name: str) -> Detector:
    """Return a detector of `DETECTORS`; BackendError if the installed OpenCV lacks it."""
    row = DETECTORS[name]
    if lack := row.lack():
        raise BackendError(lack)
    return row.make()


def find_keypoints(
    gray: NDArray[np.uint8], detector: Detector, mask: NDArray[np.uint8] | None = None
) -> tuple[Points, NDArray[Any]]:
    """Keypoints of a frame and their descriptors; none for frames under 16 pixels a side.

    Parameters
    ----------
    gray : uint8 (H, W)
    detector : Detector
        From `make_detector`.
    mask : uint8 (H, W), optional
        No keypoints where it is 0.

    Returns
    -------
    points : float32 (K, 2)
    descriptors : uint64 or float32 (K, B)
        Bits are padded with 0 to whole words.
    """
    return detector(gray, mask)


def find_corners(
    gray: NDArray[np.uint8],
    count: int,
    quality: float,
    min_distance_px: float,
    mask: NDArray[np.uint8] | None = None,
) -> Points:
    """Corners by the smaller eigenvalue of the gradient matrix (Shi and Tomasi 1994), best first.

    Returns
    -------
    float32 (C, 2), C <= count
    """
    return feature_ops().corners(gray, count, quality, min_distance_px, mask)


def match_in_window(first: Features, second: Features, window_px: float) -> tuple[Points, Points]:
    """The most similar keypoint of the first frame, for every keypoint of the second.

    Only keypoints less than `window_px` away in x and in y are compared. There is no ratio and no
    cross check (improved trajectories, Wang and Schmid 2013): RANSAC sorts out what is wrong. Of
    equally similar ones the first wins.

    Returns
    -------
    in_first, in_second : float32 (M, 2)
        M <= number of keypoints of the second frame.
    """
    best = feature_ops().match_keypoints(
        first.points, first.descriptors, second.points, second.descriptors, window_px
    )
    matched = best >= 0
    return first.points[best[matched]], second.points[matched]
