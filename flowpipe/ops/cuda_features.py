"""Gray frames on a GPU, keypoints -> keypoints, corners, matches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.ops import FeatureOps, Keypoints, Points
from flowpipe.ops.checks import check_gray, check_mask
from flowpipe.ops.cuda_kernels import Kernels
from flowpipe.ops.cuda_lanes import Lane

BLOCKS, THREADS = 32, 256  # of a frame, where a kernel's threads share a list of unknown length
CHOICE_THREADS = 512  # of a block that has a frame to itself
INT_MAX = 2**31 - 1
# OpenCV 5 computes rows in steps of 32 columns with fused multiply-add and the rest without;
# OpenCV 4 fuses everywhere.
PLAIN_STEP = 32 if int(cv2.__version__.split(".")[0]) >= 5 else 1


@dataclass(frozen=True)
class Device:
    """Access of `CudaOps` to its GPU, for operations in other files."""

    kernels: Kernels
    working: Callable[[], AbstractContextManager[Lane]]
    """Context in which this thread's stream is the current one; yields its lane."""
    uploaded: Callable[[Any], Any]
    empty: Callable[[Sequence[int], Any], Any]
    zeros: Callable[[int], Any]
    """uint32 (N,)"""


class CudaFeatures:
    """The operations of `flowpipe.ops.FeatureOps` on a GPU.

    Parameters
    ----------
    name : str
    device : Device
    host : FeatureOps
        The CPU's.
    to_host : callable
        Brings frames down.
    """

    def __init__(
        self, name: str, device: Device, host: FeatureOps, to_host: Callable[[Any], NDArray[Any]]
    ) -> None:
        self.name, self.own = name, host.own
        self._device, self._host, self._to_host = device, host, to_host

    def akaze(self, gray: Any, mask: NDArray[np.uint8] | None = None) -> list[Keypoints]:
        return self._host.akaze(self._to_host(gray), mask)

    def corners(
        self,
        gray: Any,
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> list[Points]:
        check_gray(gray)
        device, kernels = self._device, self._device.kernels
        n, height, width = gray.shape
        most = min(most, height * width)
        # Largest squared distance, in whole pixels, that is less than the least one allowed.
        near = min(max(math.ceil(apart_px**2) - 1, 0), INT_MAX)
        with device.working() as lane:
            gray, where = device.uploaded(gray), self._mask(mask, gray)
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
            found, kept = lane.download(corners), lane.download(counts)
        counts = np.minimum(np.asarray(kept)[:n], most)
        return [f[:count].copy() for f, count in zip(np.asarray(found), counts, strict=True)]

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        return self._host.match_keypoints(pairs, window_px)

    def _mask(self, mask: NDArray[np.uint8] | None, gray: Any) -> Any:
        """The mask on the device, or None."""
        if mask is None:
            return None
        check_mask(mask, gray)
        return self._device.uploaded(mask)
