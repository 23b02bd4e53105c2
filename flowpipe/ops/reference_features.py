"""Gray frames -> keypoints, corners, matches, by NumPy and OpenCV: the definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.checks import check_gray, check_keypoints, check_mask, check_matches
from flowpipe.ops.feature_protocol import Keypoints, Points
from flowpipe.ops.reference_homography import scaled_homographies, search_homographies

AKAZE_THRESHOLD = 2e-4
SMALLEST_SIDE = 16  # OpenCV's AKAZE writes outside its buffers on frames one pixel high
NO_KEYPOINTS = Keypoints(np.empty((0, 2), np.float32), np.empty((0, 0), np.uint64))


class ReferenceFeatures:
    """The operations of `flowpipe.ops.FeatureOps`."""

    name = "reference"
    own = False

    def akaze(
        self, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None
    ) -> list[Keypoints]:
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
    ) -> list[Points]:
        corners = []
        for image, where in with_masks(gray, mask):
            found = cv2.goodFeaturesToTrack(image, most, quality, apart_px, mask=where)
            points = np.empty((0, 2)) if found is None else found[:, 0]
            corners.append(np.asarray(points, np.float32))
        return corners

    def level_ranges(self, gray: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return level_ranges(gray, places)

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        return [match_pair(*pair, window_px) for pair in pairs]

    def homographies(
        self, in_first: Points, in_second: Points, threshold_px: float, most: int, least: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        check_matches(in_first, in_second)
        return scaled_homographies(
            in_first, in_second, threshold_px, most, least=least, search=search_homographies
        )


def level_ranges(gray: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return ranges of gray levels as `flowpipe.ops.FeatureOps.level_ranges` does.

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
    check_gray(gray)
    ranges = np.empty((len(gray), len(places)), np.uint8)
    for image, out in zip(gray, ranges, strict=True):
        levels = image.ravel()[places]
        np.subtract(levels.max(axis=1), levels.min(axis=1), out=out)
    return ranges


def with_masks(
    gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """Yield each image with its mask.

    Parameters
    ----------
    gray : uint8 (N, H, W)
        Images.
    mask : uint8 (N, H, W) or None
        Masks.

    Yields
    ------
    image : uint8 (H, W)
        Image, contiguous.
    mask : uint8 (H, W) or None
        Its mask.
    """
    check_gray(gray)
    if mask is not None:
        check_mask(mask, gray)
    for k, image in enumerate(gray):
        yield np.ascontiguousarray(image), None if mask is None else np.ascontiguousarray(mask[k])


def opencv_keypoints(
    detector: Any, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None
) -> list[Keypoints]:
    """Detect keypoints and descriptors by a detector of OpenCV.

    None are in images under 16 pixels a side. Bit strings are padded with 0 to uint64 words.

    Parameters
    ----------
    detector : cv2.Feature2D
        The detector.
    gray : uint8 (N, H, W)
        Images.
    mask : uint8 (N, H, W), optional
        No keypoints where it is 0.

    Returns
    -------
    list of N Keypoints
        Keypoints of each image.
    """
    return [_opencv_keypoints(detector, *image) for image in with_masks(gray, mask)]


def _opencv_keypoints(
    detector: Any, gray: NDArray[np.uint8], mask: NDArray[np.uint8] | None
) -> Keypoints:
    found, descriptors = (), None
    if min(gray.shape) >= SMALLEST_SIDE:
        found, descriptors = detector.detectAndCompute(gray, mask)
    if descriptors is None or not len(found):
        return NO_KEYPOINTS
    if descriptors.dtype == np.uint8:
        count, length = descriptors.shape
        words = np.zeros((count, -(-length // 8)), np.uint64)
        words.view(np.uint8)[:, :length] = descriptors
        descriptors = words
    return Keypoints(np.asarray(cv2.KeyPoint.convert(found), np.float32), descriptors)


def match_pair(first: Keypoints, second: Keypoints, window_px: float) -> NDArray[np.int64]:
    """Match one pair of frames as `flowpipe.ops.FeatureOps.match_keypoints` does.

    Parameters
    ----------
    first, second : Keypoints
        Keypoints of both frames.
    window_px : float
        Largest distance of matches in x and in y, pixels.

    Returns
    -------
    int64 (K,)
        For each keypoint of `second`, the index of its match in `first`, or -1.
    """
    check_keypoints(first, second)
    matched = np.full(len(second.points), -1, np.int64)
    in_second, in_first = _pairs_in_window(second.points, first.points, window_px)
    if len(in_second):
        a, b = first.descriptors[in_first], second.descriptors[in_second]
        # A key holds distance and index: the minimum is the first of the most similar keypoints.
        key = _distance(a, b) * len(first.points) + in_first
        starts = np.flatnonzero(np.diff(in_second, prepend=-1))
        matched[in_second[starts]] = np.minimum.reduceat(key, starts) % len(first.points)
    return matched


def _pairs_in_window(
    a: Points, b: Points, window_px: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices i (sorted), j of all a[i], b[j] less than a window apart in x and in y."""
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
    """Return the Hamming or squared Euclidean distance of rows (SIFT's values are integral)."""
    if a.dtype == np.uint64:
        bits: NDArray[np.int64] = np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64)
        return bits
    squares: NDArray[np.int64] = np.square(a - b).sum(axis=1).astype(np.int64)
    return squares
