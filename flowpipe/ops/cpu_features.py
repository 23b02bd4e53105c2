"""Gray frames, keypoints -> keypoints, corners, matches, by the core and by filters of OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.ops import FeatureOps, Points
from flowpipe.ops.checks import check_gray, check_keypoints
from flowpipe.ops.cpu import CpuOps
from flowpipe.ops.reference_features import AKAZE_THRESHOLD, SMALLEST_SIDE, ReferenceFeatures

# OpenCV's AKAZE at its finest scale: a Gaussian, then derivatives over five pixels by the kernel of
# Scharr, stretched. All are computed in single precision, as there.
LEVELS = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
SIGMA_PX, WINDOW = float(np.float32(1.6)), (9, 9)
MIDDLE = np.float32(10) / np.float32(3)
EDGE = np.float32(1) / (np.float32(4) * (MIDDLE + np.float32(2)))
SMOOTH = np.array([EDGE, 0, MIDDLE * EDGE, 0, EDGE], np.float32)
SLOPE = np.array([-1, 0, 0, 0, 1], np.float32)
MLDB_WORDS = 8  # of 64 bits, as in kernels/cpu/akaze.h


def features_of(ops: CpuOps) -> FeatureOps:
    """Return the operations on features by this core, or by NumPy and OpenCV where it has none."""
    return CpuFeatures(ops) if ops.core.available else ReferenceFeatures()


class CpuFeatures:
    """The operations of `flowpipe.ops.FeatureOps`, with the bytes of `ReferenceFeatures`.

    Parameters
    ----------
    ops : CpuOps
        With a compiled core.
    """

    def __init__(self, ops: CpuOps) -> None:
        self.name, self._call = ops.name, ops.call

    def akaze(
        self, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None
    ) -> tuple[Points, NDArray[np.uint64]]:
        check_gray(gray[None])
        if min(gray.shape) < SMALLEST_SIDE:
            return np.empty((0, 2), np.float32), np.empty((0, 0), np.uint64)
        smooth = cv2.GaussianBlur(
            cv2.LUT(np.ascontiguousarray(gray), LEVELS), WINDOW, SIGMA_PX,
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
            return points, np.empty((0, 0), np.uint64)
        bits = np.empty((len(points), MLDB_WORDS), np.uint64)
        self._call("akaze_bits", len(points), gray.shape[1], smooth, dx, dy, points, bits)
        return points, bits

    def corners(
        self,
        gray: NDArray[np.uint8],
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> Points:
        check_gray(gray[None])
        # As cv2.goodFeaturesToTrack begins; what follows there takes longer than all of this.
        strength = cv2.cornerMinEigenVal(np.ascontiguousarray(gray), 3, ksize=3)
        strongest = cv2.minMaxLoc(strength, mask)[1]
        cv2.threshold(strength, strongest * quality, 0, cv2.THRESH_TOZERO, dst=strength)
        mask = None if mask is None else np.ascontiguousarray(mask)
        found = np.empty((min(most, gray.size), 2), np.float32)
        count = self._call(
            "select_corners", *gray.shape, strength, mask, len(found), apart_px, found
        )
        return found[:count]

    def match_keypoints(
        self,
        first: Points,
        first_descriptors: NDArray[Any],
        second: Points,
        second_descriptors: NDArray[Any],
        window_px: float,
    ) -> NDArray[np.int64]:
        arguments = (first, first_descriptors, second, second_descriptors)
        check_keypoints(*arguments)
        if first_descriptors.dtype != np.uint64 or not len(first):
            return ReferenceFeatures().match_keypoints(*arguments, window_px)
        by_x = np.argsort(first[:, 0], kind="stable")
        x, y = np.ascontiguousarray(first[by_x].T)
        second, bits = np.ascontiguousarray(second), np.ascontiguousarray(second_descriptors)
        matched = np.empty(len(second), np.int64)
        self._call(
            "match_bits", len(first), len(second), bits.shape[1], window_px, x, y,
            first_descriptors[by_x], by_x, second, bits, matched,
        )  # fmt: skip
        return matched


def _derivative(image: NDArray[Any], axis: str) -> NDArray[Any]:
    along_x, along_y = (SLOPE, SMOOTH) if axis == "x" else (SMOOTH, SLOPE)
    return cv2.sepFilter2D(image, cv2.CV_32F, along_x, along_y)
