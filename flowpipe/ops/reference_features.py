"""Gray frames, keypoints -> keypoints, corners, matches, by NumPy and OpenCV: as they are meant."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.ops import Points
from flowpipe.ops.checks import check_gray, check_keypoints

AKAZE_THRESHOLD = 2e-4
SMALLEST_SIDE = 16  # OpenCV's AKAZE writes outside its buffers on frames one pixel high


class ReferenceFeatures:
    """The operations of `flowpipe.ops.FeatureOps`."""

    name = "reference"

    def akaze(
        self, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None
    ) -> tuple[Points, NDArray[np.uint64]]:
        check_gray(gray[None])
        home: Any = cv2 if hasattr(cv2, "AKAZE_create") else cv2.xfeatures2d  # moved in OpenCV 5
        detector = home.AKAZE_create(
            descriptor_type=home.AKAZE_DESCRIPTOR_MLDB_UPRIGHT,
            threshold=AKAZE_THRESHOLD,
            nOctaves=1,
            nOctaveLayers=1,
        )
        return opencv_keypoints(detector, gray, mask)

    def corners(
        self,
        gray: NDArray[np.uint8],
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> Points:
        check_gray(gray[None])
        found = cv2.goodFeaturesToTrack(
            np.ascontiguousarray(gray), most, quality, apart_px, mask=mask
        )
        if found is None:
            return np.empty((0, 2), np.float32)
        return np.asarray(found[:, 0], np.float32)

    def match_keypoints(
        self,
        first: Points,
        first_descriptors: NDArray[Any],
        second: Points,
        second_descriptors: NDArray[Any],
        window_px: float,
    ) -> NDArray[np.int64]:
        check_keypoints(first, first_descriptors, second, second_descriptors)
        matched = np.full(len(second), -1, np.int64)
        in_second, in_first = _pairs_in_window(second, first, window_px)
        if len(in_second):
            a, b = first_descriptors[in_first], second_descriptors[in_second]
            # One key holds distance and index, so the least key is the first of the most similar.
            key = _distance(a, b) * len(first) + in_first
            starts = np.flatnonzero(np.diff(in_second, prepend=-1))
            matched[in_second[starts]] = np.minimum.reduceat(key, starts) % len(first)
        return matched


def opencv_keypoints(
    detector: Any, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None
) -> tuple[Points, NDArray[Any]]:
    """Find keypoints and descriptors by a cv2.Feature2D; none in frames under 16 pixels a side.

    Returns
    -------
    points : float32 (K, 2)
    descriptors : uint64 or float32 (K, B)
        Bits are padded with 0 to whole words.
    """
    found, descriptors = (), None
    if min(gray.shape) >= SMALLEST_SIDE:
        found, descriptors = detector.detectAndCompute(np.ascontiguousarray(gray), mask)
    if descriptors is None or not len(found):
        return np.empty((0, 2), np.float32), np.empty((0, 0), np.uint64)
    if descriptors.dtype == np.uint8:
        count, length = descriptors.shape
        words = np.zeros((count, -(-length // 8)), np.uint64)
        words.view(np.uint8)[:, :length] = descriptors
        descriptors = words
    return np.asarray(cv2.KeyPoint.convert(found), np.float32), descriptors


def _pairs_in_window(
    a: Points, b: Points, window_px: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (i, j) of all a[i], b[j] less than a window apart in x and in y; i never falls."""
    by_x = np.argsort(b[:, 0], kind="stable")
    sorted_x = b[by_x, 0]
    start = np.searchsorted(sorted_x, a[:, 0] - window_px, side="right")
    count = np.maximum(np.searchsorted(sorted_x, a[:, 0] + window_px, side="left") - start, 0)
    i = np.repeat(np.arange(len(a)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    j = by_x[start[i] + within]
    near = np.abs(a[i, 1] - b[j, 1]) < window_px
    return i[near], j[near]


def _distance(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
    """Between rows: differing bits, or the square of the Euclidean distance (SIFT's are whole)."""
    if a.dtype == np.uint64:
        return np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64)
    return np.square(a - b).sum(axis=1).astype(np.int64)
