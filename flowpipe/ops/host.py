"""Host arrays -> host arrays: what is the same for every backend whose device is the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.waits import Waits


class HostOps:
    """The operations of `flowpipe.ops.Ops` that have nothing to do where nothing goes anywhere."""

    on_cpu = True
    surfaces = None
    window_frames = 16  # at 340x256 the flow of a window takes some 50 MB, everything included
    window_bytes = 32 << 20
    waits = Waits()

    def to_device(self, frames: NDArray[Any]) -> NDArray[Any]:
        return frames

    def to_host(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def shared(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def take(self, values: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
        taken: NDArray[np.float32] = values.ravel()[places]
        return taken

    def peak_flops(self) -> float:
        return 0.0

    def held_bytes(self) -> int:
        return 0
