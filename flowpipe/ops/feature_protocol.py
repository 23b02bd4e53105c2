"""Interface of all backends: the operations on the features of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
"""(M, 2), x right and y down, in pixels."""


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one frame, on the host."""

    points: Points
    """(K, 2) positions."""
    descriptors: NDArray[Any]
    """(K, B) uint64 bit strings (Hamming distance), or float32 (Euclidean distance)."""


class FeatureOps(Protocol):
    """Operations on features. Frames may be on the device, features are on the host.

    Features of a frame and matches of a pair do not depend on the others of a call.
    """

    name: str
    """Backend, as in `Ops.name`."""
    own: bool
    """True if flowpipe's own code detects AKAZE keypoints, False if OpenCV's contrib does."""

    def akaze(self, gray: Any, mask: NDArray[np.uint8] | None = None) -> list[Keypoints]:
        """Detect keypoints as OpenCV's AKAZE with one octave of one layer does.

        The threshold is 2e-4; descriptors are upright M-LDB.

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Images.
        mask : uint8 (N, H, W), optional
            No keypoints where it is 0.

        Returns
        -------
        list of N Keypoints
            Points float32 (K, 2) and descriptors uint64 (K, 8); none in images under 16 pixels
            a side.
        """

    def corners(
        self,
        gray: Any,
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> list[Points]:
        """Detect corners as cv2.goodFeaturesToTrack does.

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Images.
        most : int
            Most corners of an image.
        quality : float
            Least strength relative to the strongest corner.
        apart_px : float
            Least distance of two corners, pixels.
        mask : uint8 (N, H, W), optional
            No corners where it is 0.

        Returns
        -------
        list of N float32 (C, 2)
            Corners x, y in pixels, the strongest first.
        """

    def level_ranges(self, gray: Any, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the range of gray levels, max - min, at groups of pixels.

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Images.
        places : int64 (C, P)
            Flat indices of the P pixels of each group in an image.

        Returns
        -------
        uint8 (N, C)
            Range of each group.
        """

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        """Match the keypoints of pairs of frames.

        Descriptors are uint64 words or integral f32. Among equally similar keypoints the first is
        chosen.

        Parameters
        ----------
        pairs : sequence of (first, second)
            Keypoints of both frames.
        window_px : float
            Largest distance of matches in x and in y, pixels.

        Returns
        -------
        list of int64 (K,)
            For each keypoint of the second frame, the index of the most similar one of the
            first, or -1.
        """

    def homographies(
        self, in_first: Points, in_second: Points, threshold_px: float, most: int, least: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Estimate homographies by sequential RANSAC.

        Each is sought among the matches that are not within 1.5 thresholds of an earlier one, must
        have more than `least` inliers there, and is fitted to all its inliers by least squares.

        Parameters
        ----------
        in_first, in_second : float32 (M, 2)
            Matched points, pixels.
        threshold_px : float
            Reprojection error below which a match is an inlier, pixels.
        most : int
            Most homographies.
        least : int
            A homography needs more inliers than this.

        Returns
        -------
        homographies : float64 (K, 3, 3)
            Homographies, K <= most.
        inliers : bool (K, M)
            Matches that each explains.
        """
