"""Gray frames on a GPU, keypoints -> keypoints, corners, matches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DeviceMemoryError
from flowpipe.ops.checks import check_gray, check_keypoints, check_mask
from flowpipe.ops.cuda.kernels import Kernels
from flowpipe.ops.cuda.streams import CudaStream
from flowpipe.ops.feature_protocol import FeatureOps, Keypoints, Points
from flowpipe.ops.reference_features import AKAZE_THRESHOLD, NO_KEYPOINTS
from flowpipe.ops.tables import AKAZE_BORDER_PX, MLDB_WORDS

T = TypeVar("T")

LANES = 32  # of a warp
BLOCKS, THREADS = 32, 256  # of a frame, where threads share a list of unknown length
CHOICE_THREADS = 512  # of a block that has a frame to itself
BITS_THREADS = 96  # of a block that has a keypoint: one for each mean
MOST_APART_PX = 46340  # its square fits in an int
# OpenCV 5 computes rows in steps of 32 columns with fused multiply-add and the rest without;
# OpenCV 4 fuses everywhere.
PLAIN_STEP = 32 if int(cv2.__version__.split(".")[0]) >= 5 else 1


@dataclass(frozen=True, kw_only=True)
class DeviceFunctions:
    """Functions of `CudaOps` that operations in other files use."""

    kernels: Kernels
    activate: Callable[[], AbstractContextManager[CudaStream]]
    """Context in which this thread's stream is the current one; yields its stream."""
    upload: Callable[[Any], Any]
    empty: Callable[[Sequence[int], Any], Any]
    zeros: Callable[[int], Any]
    """Returns zeros uint32 (N,)."""
    feature_lock: AbstractContextManager[Any]
    """Lock of the thread that detects features, which needs much memory."""


@dataclass(frozen=True)
class FoundKeypoints:
    """Keypoints of N frames on the device, concatenated."""

    points: Any
    """Positions x, y in pixels, float32 (K, 2)."""
    starts: Any
    """int32 (N + 1,): index of each frame's first keypoint, and their total."""
    counts: list[int]
    """Keypoints per frame, (N,), on the host."""


class CudaFeatures:
    """The operations of `flowpipe.ops.FeatureOps` on a GPU.

    Parameters
    ----------
    name : str
        Name of the backend.
    device : Device
        The GPU.
    host : FeatureOps
        CPU operations, which match float descriptors and find homographies.
    """

    own = True

    def __init__(self, name: str, device: DeviceFunctions, host: FeatureOps) -> None:
        self.name, self._device, self._host = name, device, host

    def akaze(self, gray: Any, mask: NDArray[np.uint8] | None = None) -> list[Keypoints]:
        _check(gray, mask)
        return self._detect(self._akaze, gray, mask)

    def corners(
        self,
        gray: Any,
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> list[Points]:
        _check(gray, mask)
        find = partial(self._corners, most=most, quality=quality, apart_px=apart_px)
        return self._detect(find, gray, mask)

    def level_ranges(self, gray: Any, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        check_gray(gray)
        n, (count, pixels) = len(gray), places.shape
        if not n or not count:
            return np.empty((n, count), np.uint8)
        device, image = self._device, gray.shape[1] * gray.shape[2]
        with device.activate() as stream:
            ranges = device.empty((n, count), np.uint8)
            device.kernels.over_values(
                "level_ranges", n, count, device.upload(gray),
                device.upload(places.astype(np.int32)), ranges, image, count, pixels,
            )  # fmt: skip
            return np.asarray(stream.download(ranges))

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        for pair in pairs:
            check_keypoints(*pair)
        filled = [pair for pair in pairs if all(len(frame.points) for frame in pair)]
        frames = list({id(frame): frame for pair in filled for frame in pair}.values())
        kinds = {(f.descriptors.dtype, f.descriptors.shape[1]) for f in frames}
        if len(kinds) != 1 or not all(dtype == np.uint64 for dtype, _ in kinds):
            return self._host.match_keypoints(pairs, window_px)
        matched = iter(self._matches(frames, filled, window_px))
        return [
            next(matched) if len(first.points) and len(second.points)
            else np.full(len(second.points), -1, np.int64)
            for first, second in pairs
        ]  # fmt: skip

    def homographies(
        self, in_first: Points, in_second: Points, threshold_px: float, most: int, least: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return self._host.homographies(in_first, in_second, threshold_px, most, least)

    def _detect(
        self,
        find: Callable[[Any, NDArray[np.uint8] | None], list[T]],
        gray: Any,
        mask: NDArray[np.uint8] | None,
    ) -> list[T]:
        """Detect features of all frames, or of halves of them if the device memory is too small."""
        try:
            with self._device.feature_lock:
                return find(gray, mask)
        except DeviceMemoryError:
            if len(gray) < 2:
                raise
        # Outside the handler: its error references all that was in memory.
        middle = len(gray) // 2
        first, second = (None, None) if mask is None else (mask[:middle], mask[middle:])
        return [
            *self._detect(find, gray[:middle], first),
            *self._detect(find, gray[middle:], second),
        ]

    def _akaze(self, gray: Any, mask: NDArray[np.uint8] | None) -> list[Keypoints]:
        device, launch = self._device, self._device.kernels.over_images
        n, *size = gray.shape
        if not n or min(size) <= 2 * AKAZE_BORDER_PX:
            return [NO_KEYPOINTS] * n
        with device.activate() as stream:
            gray, where = device.upload(gray), None if mask is None else device.upload(mask)
            smooth, dx, dy, response = (device.empty(gray.shape, np.float32) for _ in range(4))
            launch("akaze_smooth", n, *size, gray, smooth, *size)
            launch("akaze_slopes", n, *size, smooth, dx, dy, *size)
            launch("akaze_response", n, *size, dx, dy, response, *size)
            found = self.keypoints(response, where, AKAZE_THRESHOLD)
            if not len(found.points):
                return [NO_KEYPOINTS] * n
            bits = device.empty((len(found.points), 2 * MLDB_WORDS), np.uint32)
            device.kernels.launch(
                "akaze_bits", (max(found.counts), 1, n), (BITS_THREADS, 1, 1), smooth, dx, dy,
                found.starts, found.points, bits, *size,
            )  # fmt: skip
            points, words = stream.download(found.points), stream.download(bits)
        parts = np.cumsum(found.counts)[:-1]
        return [
            Keypoints(xy.copy(), described.copy()) if len(xy) else NO_KEYPOINTS
            for xy, described in zip(
                np.split(np.asarray(points), parts),
                np.split(np.asarray(words).view(np.uint64), parts),
                strict=True,
            )
        ]

    def keypoints(self, response: Any, mask: Any, threshold: float) -> FoundKeypoints:
        """Find the maxima of responses; waits for their number.

        Parameters
        ----------
        response : float32 (N, H, W)
            Responses, on the device.
        mask : uint8 (N, H, W) or None
            No keypoints where it is 0; on the device.
        threshold : float
            Least response.

        Returns
        -------
        FoundKeypoints
            Positions, on the device.
        """
        device = self._device
        n, *size = response.shape
        room = max(1, size[0] * size[1] // 4)  # maxima of 3x3 pixels, none at a border
        with device.activate() as stream:
            state, counts = device.empty(response.shape, np.uint8), device.zeros(2 * n)
            places = device.empty((n, room), np.int32)
            device.kernels.over_images(
                "akaze_candidates", n, *size, response, threshold, state, places, counts, *size,
                room,
            )  # fmt: skip
            device.kernels.launch(
                "akaze_choice", (1, 1, n), (CHOICE_THREADS, 1, 1), response, mask, state, places,
                counts, *size, room,
            )  # fmt: skip
            found = np.asarray(stream.download(counts))[:n].tolist()
            starts = device.upload(_begins(found))
            points = device.empty((sum(found), 2), np.float32)
            device.kernels.launch(
                "akaze_points", (BLOCKS, 1, n), (THREADS, 1, 1), response, places, counts, starts,
                points, *size, room,
            )  # fmt: skip
        return FoundKeypoints(points, starts, found)

    def _corners(
        self,
        gray: Any,
        mask: NDArray[np.uint8] | None,
        *,
        most: int,
        quality: float,
        apart_px: float,
    ) -> list[Points]:
        device, kernels = self._device, self._device.kernels
        n, height, width = gray.shape
        most = min(most, height * width)
        # Largest squared distance, in whole pixels, that is less than the least one allowed.
        near = max(math.ceil(min(apart_px, MOST_APART_PX) ** 2) - 1, 0)
        with device.activate() as stream:
            gray, where = device.upload(gray), None if mask is None else device.upload(mask)
            strength = device.empty(gray.shape, np.float32)
            state = device.empty(gray.shape, np.uint8)
            ranks = device.empty(gray.shape, np.uint64)
            strongest, counts = device.zeros(n), device.zeros(2 * n)
            corners = device.empty((n, most, 2), np.float32)
            size = height, width
            kernels.over_images(
                "corner_strength", n, *size, gray, where, strength, strongest, *size,
                width % PLAIN_STEP,
            )  # fmt: skip
            kernels.over_images(
                "corner_candidates", n, *size, strength, where, strongest, quality, state, ranks,
                counts, *size,
            )  # fmt: skip
            reach = min(math.isqrt(near), max(size))
            kernels.launch(
                "corner_choice", (1, 1, n), (CHOICE_THREADS, 1, 1), strength, state, ranks, counts,
                *size, reach, near,
            )  # fmt: skip
            kernels.launch(
                "corner_order", (BLOCKS, 1, n), (THREADS, 1, 1), ranks, counts, corners,
                height * width, width, most,
            )  # fmt: skip
            found, kept = stream.download(corners), stream.download(counts)
        counts = np.minimum(np.asarray(kept)[:n], most)
        return [f[:count].copy() for f, count in zip(np.asarray(found), counts, strict=True)]

    def _matches(
        self,
        frames: Sequence[Keypoints],
        pairs: Sequence[tuple[Keypoints, Keypoints]],
        window_px: float,
    ) -> list[NDArray[np.int64]]:
        """Match pairs of these frames by Hamming distance; every frame is uploaded once."""
        device = self._device
        number = {id(frame): k for k, frame in enumerate(frames)}
        numbers = np.array([[number[id(frame)] for frame in pair] for pair in pairs], np.int32)
        counts = [len(second.points) for _, second in pairs]
        begins = _begins(counts)
        bits = np.concatenate([frame.descriptors for frame in frames])
        with device.activate() as stream:
            matched = device.empty((begins[-1],), np.int32)
            device.kernels.launch(
                "match_bits",
                (-(-max(counts) * LANES // THREADS), 1, len(pairs)), (THREADS, 1, 1),
                device.upload(np.concatenate([frame.points for frame in frames])),
                device.upload(bits),
                device.upload(_begins([len(frame.points) for frame in frames])),
                device.upload(numbers), device.upload(begins), matched, bits.shape[1],
                window_px,
            )  # fmt: skip
            found = np.asarray(stream.download(matched), np.int64)
        return np.split(found, begins[1:-1])


def _begins(counts: Sequence[int]) -> NDArray[np.int32]:
    """Return the starts of N concatenated lists and their end, int32 (N + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _check(gray: Any, mask: NDArray[np.uint8] | None) -> None:
    check_gray(gray)
    if mask is not None:
        check_mask(mask, gray)
