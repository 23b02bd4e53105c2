"""Interface of all backends: the operations on pixels and the types that they share.

Arrays are stacks with N frames, images or pairs in front. A backend may return arrays on its
device: callers only slice them, pass them back, or copy them with `to_host`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.waits import WaitTimes
from flowpipe.surfaces import SurfaceOps

Points = NDArray[np.float32]
"""(M, 2), x right and y down, in pixels."""


@dataclass(frozen=True)
class TVL1Model:
    """Constants of one scale of TV-L1, named as in the paper."""

    tau: float
    lambda_: float
    theta: float
    epsilon: float
    """A warp has converged when the RMS change of the flow in one iteration is at most this, px."""
    block: int
    """Iterations per block; a warp ends with the block in which OpenCV would end it."""
    spaced: bool = True
    """True: check convergence as OpenCV's CUDA code does, after even numbers of iterations, and
    after a squared change e only about e / epsilon**2 iterations later. False: after each, as its
    CPU code does."""
    sampling: str = "catmull_rom"
    """Interpolation of the second image. ``catmull_rom``: bicubic with a = -1/2, clamped to the
    image. ``keys``: as cv2.remap, a = -3/4, zero outside the image. ``thirtyseconds``: as keys, but
    at the nearest 1/32 px, as in OpenCV 4 and before."""
    median: int = 1
    """Window (1, 3 or 5) of a median filter of u and v; 1 is none."""
    median_every: int = 30
    """Iterations between two median filters; the first filter precedes the iterations."""

    def enough(self, pixels: int) -> float:
        """Return the sum of squared change over `pixels` pixels at which a warp has converged."""
        return self.epsilon**2 * pixels


class TVL1State(Protocol):
    """Fields of N pairs at one scale; the memory layout is the backend's."""

    def field(self, name: str) -> Any:
        """Return a copy f32 (N, H, W) of ``a b c g u v p11 p12 p21 p22``: I1wx, I1wy, rho_c,
        -1/|grad|^2, the flow, and the dual variables times theta."""


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
        """Copy a host array to the device once, for several operations."""

    def to_host(self, array: Any) -> NDArray[Any]:
        """Return the result of an operation as a NumPy array, after waiting for it."""

    def share(self, array: Any) -> Any:
        """Return an operation's result for use in any thread. Operations that use it wait, on the
        device, for the work that this thread has queued so far. The caller must keep the array
        until they are done."""

    def resize(self, frames: Any, height: int, width: int) -> NDArray[np.uint8]:
        """Resize frames uint8 (N, H, W, 3) to (N, height, width, 3), bilinear, centred pixels.

        Instead of frames, a backend with `surfaces` takes `flowpipe.surfaces.Surfaces`.
        """

    def gray(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert RGB uint8 (N, H, W, 3) to BT.601 luma uint8 (N, H, W), 15-bit fixed point."""

    def difference(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Return next - this + 128 of frames (N, H, W, 3) as planes uint8 (N-1, 3, H, W).

        Changes of -128 .. 127 are exact; the second result, uint32 (N-1,), counts the clipped ones.
        """

    def quantise(
        self, flow: NDArray[np.float32], bound: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Quantise flow f32 (N, 2, H, W) px to uint8; also count the values beyond the bound, (N,).

        rint((clip(v, -B, B) + B) * 255 / (2 B)) in double precision, half to even, as dense_flow
        does; zero becomes 128. NaN becomes 128 and counts as clipped.
        """

    def warp_homography(
        self,
        gray: NDArray[np.uint8],
        homography: NDArray[np.float64],
        fill: NDArray[np.uint8],
        margin: int = 5,
    ) -> NDArray[np.uint8]:
        """Warp images uint8 (N, H, W) by homographies f64 (N, 3, 3): out(x) = gray(H x).

        Bilinear on a 1/32 px grid. If the source column or row is not strictly inside
        (margin, size - 1 - margin), the pixel of `fill` is used (dense_flow's warp_flow.h).
        """

    def pyramid(
        self, gray: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], rule: str, step: float
    ) -> tuple[Any, ...]:
        """Return f32 levels (N, h, w) of these sizes; the first is the images (N, H, W) themselves.

        ``pyrdown`` halves with a 1-4-6-4-1 window and mirrored borders, sizes (n + 1) // 2.
        ``bilinear`` samples at index / step, as cv::cuda::resize does. ``centred`` samples at
        (index + 1/2) / step - 1/2, as cv::resize does.
        """

    def upsample(self, flow: Any, height: int, width: int, factor: float, rule: str) -> Any:
        """Resize flow f32 (N, 2, h, w) to (N, 2, height, width), bilinear, times `factor`.

        Pixels are centred if the rule is ``centred``; else it samples at index * h / height.
        """

    def take(self, values: Any, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the f32 values at flat indices (M,) of an array of any shape, on the host."""

    def peak_flops(self) -> float:
        """Return the peak single-precision operations per second by data sheet; 0 if unknown."""

    def allocated_bytes(self) -> int:
        """Return the device memory that this process holds, bytes; 0 if the device is the CPU."""

    def pairs_at_once(self, height: int, width: int) -> int:
        """Return the pairs of this size per TV-L1 call that fit the device's caches and memory."""

    def empty(self, *shape: int) -> Any:
        """Return an uninitialised f32 array of this shape on the device."""

    def batch_launches(self) -> AbstractContextManager[None]:
        """Context in which this thread's launches may be batched: work is sure to have started only
        when the context ends or a result is copied to the host."""

    def tvl1_memory(self, n: int, height: int, width: int) -> Any:
        """Return memory for states of N pairs of at most this size; memory is reused between calls.

        Raises
        ------
        DeviceMemoryError
            If there is too little; fewer pairs may fit.
        """

    def tvl1_start(
        self, first: Any, second: Any, flow: Any | None, model: TVL1Model, memory: Any
    ) -> TVL1State:
        """Return the state of one scale: images f32 (N, H, W), flow (N, 2, H, W) or zero, p = 0.

        The second image's gradient is half the difference of both neighbours, indices clamped.
        """

    def tvl1_warps(self, state: Any, warps: int, n: int) -> Any:
        """Run `warps` warps of at most `n` iterations; each warp linearises about the current flow:
        it sets a, b, c, g from I1, I1x, I1y warped by the flow.

        Pairs advance independently. Returns the total iterations of each, int32 (N,).
        """

    def tvl1_flow(self, state: Any, out: Any) -> Any:
        """Write the flow of a state into `out`, f32 (N, 2, H, W), and return it."""


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one frame, on the host."""

    points: Points
    """(K, 2) positions."""
    descriptors: NDArray[Any]
    """(K, B) uint64 bit strings (Hamming distance), or float32 (Euclidean distance)."""


class FeatureOps(Protocol):
    """Operations on features. Frames may be on the device, features are on the host.

    Features of a frame and matches of a pair do not depend on the others of a call.
    """

    name: str
    """Backend, as in `Ops.name`."""
    own: bool
    """True if flowpipe's own code detects AKAZE keypoints, False if OpenCV's contrib does."""

    def akaze(self, gray: Any, mask: NDArray[np.uint8] | None = None) -> list[Keypoints]:
        """Detect keypoints of images uint8 (N, H, W), as OpenCV's AKAZE with one octave of one
        layer, threshold 2e-4, and upright M-LDB descriptors, uint64 (K, 8).

        None are where the mask (N, H, W) is 0, or in images under 16 pixels a side.
        """

    def corners(
        self,
        gray: Any,
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> list[Points]:
        """Detect the corners of images uint8 (N, H, W) as cv2.goodFeaturesToTrack does: f32 (C, 2)
        per image, best first, C <= most.

        `quality` is the least strength relative to the strongest corner, `apart_px` the least
        distance of two corners. None are where the mask (N, H, W) is 0.
        """

    def level_ranges(self, gray: Any, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the range of gray levels, max - min, uint8 (N, C), of images uint8 (N, H, W) at C
        groups of P pixels, given as flat indices (C, P) of an image."""

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        """Match the keypoints of pairs of frames. The result of a pair, int64 (K,), has for each
        keypoint of the second frame the index of the most similar one of the first within
        `window_px` in x and in y, or -1.

        Descriptors are uint64 words or integral f32. Among equally similar keypoints the first is
        chosen.
        """

    def homographies(
        self, in_first: Points, in_second: Points, threshold_px: float, most: int, least: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Estimate homographies f64 (K, 3, 3), K <= most, of matches f32 (M, 2), and their inliers,
        bool (K, M): matches with a reprojection error below the threshold.

        Sequential RANSAC: each is sought among the matches that are not within 1.5 thresholds of
        an earlier one, must have more than `least` inliers there, and is fitted to all its inliers
        by least squares.
        """
