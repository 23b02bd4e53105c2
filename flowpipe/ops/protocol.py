"""Interface of all backends: the operations on pixels and the types that they share.

Arrays are stacks with N frames, images or pairs in front. A backend may return arrays on its
device: callers only slice them, pass them back, or copy them with `to_host`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.feature_protocol import FeatureOps
from flowpipe.ops.tvl1_protocol import TVL1Model, TVL1State
from flowpipe.ops.waits import WaitTimes
from flowpipe.surfaces import SurfaceOps


class Ops(Protocol):
    """Operations on pixels. They write to no argument except a TV-L1 state and `out`."""

    name: str
    """Backend as recorded in the store: ``cpu-avx512``, ``reference`` ..."""
    on_cpu: bool
    """True if the operations run on the CPU."""
    waits: WaitTimes
    """Time in which threads waited for the device."""
    window_frames: int
    """Largest number of frames per call, for efficiency; the limit for small frames."""
    window_bytes: int
    """Largest RGB window per call, bytes, for the device's memory; the limit for large frames."""

    @property
    def features(self) -> FeatureOps:
        """Operations on the features of frames, on the same device."""

    @property
    def surfaces(self) -> SurfaceOps | None:
        """Operations on pictures that a decoder wrote to the device; None for the CPU."""

    def to_device(self, frames: NDArray[Any]) -> Any:
        """Copy a host array to the device once, for several operations.

        Parameters
        ----------
        frames : array
            Array on the host.

        Returns
        -------
        device array
            Its values on the device.
        """

    def to_host(self, array: Any) -> NDArray[Any]:
        """Copy the result of an operation to the host, after waiting for it.

        Parameters
        ----------
        array : device array
            Result of an operation.

        Returns
        -------
        array
            Its values as a NumPy array.
        """

    def share(self, array: Any) -> Any:
        """Make an operation's result usable in any thread.

        Operations that use it wait, on the device, for the work that this thread has queued so far.
        The caller must keep the array until they are done.

        Parameters
        ----------
        array : device array
            Result of an operation of this thread.

        Returns
        -------
        device array
            The same memory, for any thread.
        """

    def resize(self, frames: Any, height: int, width: int) -> NDArray[np.uint8]:
        """Resize frames, bilinear, with centred pixels.

        Parameters
        ----------
        frames : uint8 (N, H, W, 3)
            Frames; a backend with `surfaces` also takes `flowpipe.surfaces.Surfaces`.
        height, width : int
            Size of the result, pixels.

        Returns
        -------
        uint8 (N, height, width, 3)
            Resized frames.
        """

    def gray(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert RGB to BT.601 luma, in 15-bit fixed point.

        Parameters
        ----------
        frames : uint8 (N, H, W, 3)
            RGB frames.

        Returns
        -------
        uint8 (N, H, W)
            Luma.
        """

    def difference(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Subtract each frame from the next one: next - this + 128.

        Parameters
        ----------
        frames : uint8 (N, H, W, 3)
            RGB frames.

        Returns
        -------
        planes : uint8 (N - 1, 3, H, W)
            Differences; changes of -128 .. 127 are exact.
        clipped : uint32 (N - 1,)
            Number of clipped values of each image.
        """

    def quantise(
        self, flow: NDArray[np.float32], bound: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Quantise flow to bytes.

        rint((clip(v, -B, B) + B) * 255 / (2 B)) in double precision, half to even, as dense_flow
        does; zero becomes 128. NaN becomes 128 and counts as clipped.

        Parameters
        ----------
        flow : float32 (N, 2, H, W)
            Flow, pixels.
        bound : float
            Largest displacement that is stored, B, pixels.

        Returns
        -------
        levels : uint8 (N, 2, H, W)
            Quantised flow.
        clipped : uint32 (N,)
            Number of values of each field beyond the bound.
        """

    def warp_homography(
        self,
        gray: NDArray[np.uint8],
        homography: NDArray[np.float64],
        fill: NDArray[np.uint8],
        margin: int = 5,
    ) -> NDArray[np.uint8]:
        """Warp images by homographies: out(x) = gray(H x).

        Bilinear on a 1/32 px grid. If the source column or row is not strictly inside (margin, size
        - 1 - margin), the pixel of `fill` is used (dense_flow's warp_flow.h).

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Images.
        homography : float64 (N, 3, 3)
            Homography of each image, H.
        fill : uint8 (N, H, W)
            Pixels beyond the margin.
        margin : int
            Width of the border that is not read, pixels.

        Returns
        -------
        uint8 (N, H, W)
            Warped images.
        """

    def pyramid(
        self, gray: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], rule: str, step: float
    ) -> tuple[Any, ...]:
        """Build the levels of images.

        ``pyrdown`` halves with a 1-4-6-4-1 window and mirrored borders, sizes (n + 1) // 2.
        ``bilinear`` samples at index / step, as cv::cuda::resize does. ``centred`` samples at
        (index + 1/2) / step - 1/2, as cv::resize does.

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Images.
        sizes : sequence of (rows, columns)
            Size of each level, the images' own first.
        rule : {"pyrdown", "bilinear", "centred"}
            How a level is made from the one before.
        step : float
            Size of a level relative to the one before.

        Returns
        -------
        tuple of float32 (N, rows, columns)
            Levels; the first has the values of the images.
        """

    def upsample(self, flow: Any, height: int, width: int, factor: float, rule: str) -> Any:
        """Resize flow, bilinear, and scale it.

        Pixels are centred if the rule is ``centred``; else it samples at index * h / height.

        Parameters
        ----------
        flow : float32 (N, 2, h, w)
            Flow of a level.
        height, width : int
            Size of the result, pixels.
        factor : float
            Factor of the flow.
        rule : {"pyrdown", "bilinear", "centred"}
            Rule of the pyramid.

        Returns
        -------
        float32 (N, 2, height, width)
            Flow of the next level.
        """

    def take(self, values: Any, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read values of a device array.

        Parameters
        ----------
        values : float32 (...)
            Device array.
        places : int64 (M,)
            Flat indices.

        Returns
        -------
        float32 (M,)
            Values, on the host.
        """

    def peak_flops(self) -> float:
        """Return the peak single-precision operations per second by data sheet; 0 if unknown."""

    def allocated_bytes(self) -> int:
        """Return the device memory that this process holds, bytes; 0 if the device is the CPU."""

    def free_workspace(self) -> None:
        """Free the device memory that is kept for this thread's next TV-L1 call."""

    def pairs_at_once(self, height: int, width: int) -> int:
        """Return how many pairs per TV-L1 call fit the device's caches and memory.

        Parameters
        ----------
        height, width : int
            Size of a pair, pixels.

        Returns
        -------
        int
            Number of pairs.
        """

    def empty(self, *shape: int) -> Any:
        """Allocate an uninitialised array on the device.

        Parameters
        ----------
        *shape : int
            Shape of the array.

        Returns
        -------
        float32 (shape)
            Device array.
        """

    def batch_launches(self) -> AbstractContextManager[None]:
        """Return a context in which this thread's launches may be batched.

        Work is sure to have started only when the context ends or a result is copied to the host.
        """

    def tvl1_memory(self, n: int, height: int, width: int) -> Any:
        """Return memory for the states of some pairs; it is reused between calls.

        Parameters
        ----------
        n : int
            Number of pairs, N.
        height, width : int
            Largest size, pixels.

        Returns
        -------
        object
            Memory for `tvl1_start`.

        Raises
        ------
        DeviceMemoryError
            If there is too little; fewer pairs may fit.
        """

    def tvl1_start(
        self, first: Any, second: Any, flow: Any | None, model: TVL1Model, memory: Any
    ) -> TVL1State:
        """Return the state of one scale, with dual variables of zero.

        The second image's gradient is half the difference of both neighbours, indices clamped.

        Parameters
        ----------
        first, second : float32 (N, H, W)
            Images.
        flow : float32 (N, 2, H, W) or None
            Flow to begin with, pixels; None for zero.
        model : TVL1Model
            Constants of the scale.
        memory : object
            Result of `tvl1_memory`.

        Returns
        -------
        TVL1State
            The state.
        """

    def tvl1_warps(self, state: Any, warps: int, n: int) -> Any:
        """Run some warps of a state.

        Each warp linearises about the current flow: it sets a, b, c, g from I1, I1x, I1y warped by
        the flow, and iterates. Pairs advance independently.

        Parameters
        ----------
        state : TVL1State
            State of N pairs.
        warps : int
            Number of warps.
        n : int
            Most iterations of a warp.

        Returns
        -------
        int32 (N,)
            Iterations of each pair in all warps.
        """

    def tvl1_flow(self, state: Any, out: Any) -> Any:
        """Copy the flow of a state.

        Parameters
        ----------
        state : TVL1State
            State of N pairs.
        out : float32 (N, 2, H, W)
            Array to write to.

        Returns
        -------
        float32 (N, 2, H, W)
            `out`: flow in pixels.
        """
