"""Gray frames on a GPU, keypoints -> keypoints, corners, matches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops import FeatureOps, Keypoints, Points


class CudaFeatures:
    """The operations of `flowpipe.ops.FeatureOps`, computed by the CPU's.

    Parameters
    ----------
    name : str
    host : FeatureOps
        The CPU's.
    to_host : callable
        Brings frames down.
    """

    def __init__(self, name: str, host: FeatureOps, to_host: Callable[[Any], NDArray[Any]]) -> None:
        self.name, self.own = name, host.own
        self._host, self._to_host = host, to_host

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
        return self._host.corners(self._to_host(gray), most, quality, apart_px, mask)

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        return self._host.match_keypoints(pairs, window_px)
