"""Host arrays -> host arrays: the operations that all CPU backends share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.waits import WaitTimes


class HostOps:
    """Operations of `flowpipe.ops.Ops` that are trivial if the device is the host."""

    on_cpu = True
    surfaces = None
    window_frames = 16  # a window of 340x256 takes some 50 MB, flow included
    window_bytes = 32 << 20
    waits = WaitTimes()

    def to_device(self, frames: NDArray[Any]) -> NDArray[Any]:
        return frames

    def to_host(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def share(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def take(self, values: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
        taken: NDArray[np.float32] = values.ravel()[places]
        return taken

    def peak_flops(self) -> float:
        return 0.0

    def allocated_bytes(self) -> int:
        return 0

    def free_workspace(self) -> None:
        pass
