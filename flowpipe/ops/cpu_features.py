"""Gray frames -> keypoints, corners, matches, by the compiled core and OpenCV's filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.checks import check_keypoints, check_matches
from flowpipe.ops.feature_protocol import Keypoints, Points
from flowpipe.ops.reference_features import (
    AKAZE_THRESHOLD,
    NO_KEYPOINTS,
    SMALLEST_SIDE,
    level_ranges,
    match_pair,
    with_masks,
)
from flowpipe.ops.reference_homography import scaled_homographies
from flowpipe.ops.tables import MLDB_WORDS

# OpenCV's AKAZE at its finest scale: a Gaussian, then derivatives over five pixels by Scharr's
# kernel, stretched. All are in single precision, as in OpenCV.
LEVELS = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
SIGMA_PX, WINDOW = float(np.float32(1.6)), (9, 9)
MIDDLE = np.float32(10) / np.float32(3)
EDGE = np.float32(1) / (np.float32(4) * (MIDDLE + np.float32(2)))
SMOOTH = np.array([EDGE, 0, MIDDLE * EDGE, 0, EDGE], np.float32)
SLOPE = np.array([-1, 0, 0, 0, 1], np.float32)


class CpuFeatures:
    """The operations of `flowpipe.ops.FeatureOps`, with the bytes of `ReferenceFeatures`.

    Parameters
    ----------
    name : str
        Name of the backend.
    call : callable
        `flowpipe.ops.cpu.CpuOps.call`.
    """

    own = True

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name, self._call = name, call

    def akaze(
        self, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None
    ) -> list[Keypoints]:
        return [self._keypoints(*image) for image in with_masks(gray, mask)]

    def corners(
        self,
        gray: NDArray[np.uint8],
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> list[Points]:
        return [
            self._corners(image, where, most, quality, apart_px)
            for image, where in with_masks(gray, mask)
        ]

    def level_ranges(self, gray: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return level_ranges(gray, places)

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        return [self._matches(*pair, window_px) for pair in pairs]

    def _keypoints(self, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Keypoints:
        if min(gray.shape) < SMALLEST_SIDE:
            return NO_KEYPOINTS
        smooth = cv2.GaussianBlur(
            cv2.LUT(gray, LEVELS), WINDOW, SIGMA_PX,
            sigmaY=SIGMA_PX, borderType=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        dx, dy = (_derivative(smooth, axis) for axis in "xy")
        xx, xy, yy = _derivative(dx, "x"), _derivative(dx, "y"), _derivative(dy, "y")
        points = np.empty((gray.size // 4, 2), np.float32)  # maxima of 3x3 pixels, none at a border
        count = self._call("akaze_keypoints", *gray.shape, xx, xy, yy, AKAZE_THRESHOLD, points)
        points = points[:count].copy()
        if mask is not None:
            x, y = (points + np.float32(0.5)).astype(np.int64).T
            points = points[mask[y, x] != 0]
        if not len(points):
            return NO_KEYPOINTS
        bits = np.empty((len(points), MLDB_WORDS), np.uint64)
        self._call("akaze_bits", len(points), gray.shape[1], smooth, dx, dy, points, bits)
        return Keypoints(points, bits)

    def _corners(
        self,
        gray: NDArray[np.uint8],
        mask: NDArray[np.uint8] | None,
        most: int,
        quality: float,
        apart_px: float,
    ) -> Points:
        # As cv2.goodFeaturesToTrack starts; its selection would take longer than all of this.
        strength = cv2.cornerMinEigenVal(gray, 3, ksize=3)
        strongest = cv2.minMaxLoc(strength, mask)[1]
        cv2.threshold(strength, strongest * quality, 0, cv2.THRESH_TOZERO, dst=strength)
        found = np.empty((min(most, gray.size), 2), np.float32)
        count = self._call(
            "select_corners", *gray.shape, strength, mask, len(found), apart_px, found
        )
        return found[:count]

    def _matches(self, first: Keypoints, second: Keypoints, window_px: float) -> NDArray[np.int64]:
        if first.descriptors.dtype != np.uint64 or not len(first.points):
            return match_pair(first, second, window_px)
        check_keypoints(first, second)
        by_x = np.argsort(first.points[:, 0], kind="stable")
        x, y = np.ascontiguousarray(first.points[by_x].T)
        points, bits = map(np.ascontiguousarray, (second.points, second.descriptors))
        matched = np.empty(len(points), np.int64)
        self._call(
            "match_bits", len(by_x), len(points), bits.shape[1], window_px, x, y,
            first.descriptors[by_x], by_x, points, bits, matched,
        )  # fmt: skip
        return matched

    def homographies(
        self, in_first: Points, in_second: Points, threshold_px: float, most: int, least: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        check_matches(in_first, in_second)
        return scaled_homographies(
            in_first, in_second, threshold_px, most, least=least, search=self._search
        )

    def _search(
        self, rows: NDArray[np.float32], most: int, least: int, threshold: np.float32
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        found = np.empty((most, 3, 3))
        agree = np.empty((most, rows.shape[1]), np.bool_)
        count = self._call(
            "homographies", rows.shape[1], most, least, rows, float(threshold), found, agree
        )
        return found[:count], agree[:count]


def _derivative(image: NDArray[Any], axis: str) -> NDArray[Any]:
    along_x, along_y = (SLOPE, SMOOTH) if axis == "x" else (SMOOTH, SLOPE)
    return cv2.sepFilter2D(image, cv2.CV_32F, along_x, along_y)
