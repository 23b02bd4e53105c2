"""The operations on pixels that every backend has, and the values that they share.

Arrays are stacks with N frames, images or pairs in front; a backend may keep what it returns on its
device: callers only slice it, hand it back, or ask for it with `to_host`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.waits import Waits
from flowpipe.surfaces import SurfaceOps

Points = NDArray[np.float32]
"""(M, 2), x right and y down, in pixels."""


@dataclass(frozen=True)
class TVL1Model:
    """Constants of one scale of TV-L1, by the paper's letters where it has them."""

    tau: float
    lambda_: float
    theta: float
    epsilon: float
    """A warp has converged when the root mean square change of the flow in one iteration is at most
    this, in px."""
    block: int
    """It ends with the block of so many iterations in which OpenCV would have ended it."""
    spaced: bool = True
    """Whether OpenCV's CUDA code is meant, which looks at the change after even numbers of
    iterations, and after a squared change e only about e / epsilon**2 later; its CPU code looks
    after each."""
    sampling: str = "catmull_rom"
    """How the second image is read between its pixels. ``catmull_rom``: bicubic with a = -1/2,
    reads clamped to the image. ``keys``: as cv2.remap reads, a = -3/4, zero outside the image;
    ``thirtyseconds`` the same at the nearest 1/32 px, as it did until OpenCV 4."""
    median: int = 1
    """Window (1, 3 or 5) of a median filter of u and v; 1 is none."""
    median_every: int = 30
    """Iterations from one median filter to the next; the first comes before the iterations."""

    def enough(self, pixels: int) -> float:
        """The sum of squared change, over so many pixels, that counts as converged."""
        return self.epsilon**2 * pixels


class TVL1State(Protocol):
    """The fields of N pairs at one scale, in whatever layout the backend likes."""

    def field(self, name: str) -> Any:
        """f32 (N, H, W) copy of ``a b c g u v p11 p12 p21 p22``: I1wx, I1wy, rho_c, -1/|grad|^2,
        the flow, and the dual variables times theta."""


class Ops(Protocol):
    """Everything that is computed on pixels. No argument is written to, except the state of a TV-L1
    scale."""

    name: str
    """What ran, as recorded in the store: ``cpu-avx512``, ``reference`` ..."""
    on_cpu: bool
    """Whether CPU time is what its work costs."""
    waits: Waits
    """Time in which threads waited for the device."""
    window_frames: int
    """Most frames per call, for the device's efficiency; the limit for small frames."""
    window_bytes: int
    """Most bytes of RGB frames per call, for the device's memory; the limit for large frames."""

    @property
    def features(self) -> FeatureOps:
        """Operations on the features of frames, on the same device."""

    @property
    def surfaces(self) -> SurfaceOps | None:
        """Operations on pictures that a decoder leaves on the device; None for the CPU."""

    def to_device(self, frames: NDArray[Any]) -> Any:
        """A host array for several operations to use: it goes up once."""

    def to_host(self, array: Any) -> NDArray[Any]:
        """What an operation returned as a NumPy array; waits for it if need be."""

    def shared(self, array: Any) -> Any:
        """Return an operation's result for use in any thread. Operations that use it wait, on the
        device, for what this thread has queued so far. The caller keeps the array until they are
        done."""

    def resize(self, frames: Any, height: int, width: int) -> NDArray[np.uint8]:
        """uint8 (N, H, W, 3) -> (N, height, width, 3), bilinear with centred pixels.

        Instead of frames, a backend with `surfaces` takes `flowpipe.surfaces.Surfaces`.
        """

    def gray(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """RGB (N, H, W, 3) -> BT.601 luma (N, H, W), 15 bit fixed point."""

    def difference(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """(N, H, W, 3) -> planes (N-1, 3, H, W) of next - this + 128, and how many saturated.

        Exact for changes of -128 .. 127; ``clipped`` (N-1,) counts the values beyond.
        """

    def quantise(
        self, flow: NDArray[np.float32], bound: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """(N, 2, H, W) px -> bytes, and (N,) how many values lay beyond the bound.

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
        """out(x) = gray(H x): (N, H, W) images seen through (N, 3, 3) homographies.

        Bilinear on a 1/32 px grid. Where the source column or row is not strictly inside
        (margin, size - 1 - margin) the pixel of `fill` stands instead (dense_flow's warp_flow.h).
        """

    def pyramid(
        self, gray: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], rule: str, step: float
    ) -> tuple[Any, ...]:
        """(N, H, W) -> f32 levels (N, h, w) of these sizes, finest (the images themselves) first.

        ``pyrdown`` halves with a 1-4-6-4-1 window and mirrored borders, sizes (n + 1) // 2;
        ``bilinear`` samples at the index over step, as cv::cuda::resize does; ``centred`` samples
        at the same place of the image, half a pixel counted in, as cv::resize does.
        """

    def upsample(self, flow: Any, height: int, width: int, factor: float, rule: str) -> Any:
        """f32 (N, 2, h, w) -> factor * flow at (N, 2, height, width), bilinear.

        Centred where the rule is ``centred``, else at the index times h / height.
        """

    def take(self, values: Any, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """f32 values of any shape at the places (M,) of their flat order, on the host."""

    def peak_flops(self) -> float:
        """Single precision operations per second at most, by its data sheet; 0 where unknown."""

    def held_bytes(self) -> int:
        """Memory of the device that this process holds; 0 where the device is the CPU."""

    def pairs_at_once(self, height: int, width: int) -> int:
        """Pairs of this size per TV-L1 call that suit the device's caches and free memory."""

    def empty(self, *shape: int) -> Any:
        """f32 array of this shape, its values undefined."""

    def joined(self) -> AbstractContextManager[None]:
        """Context in which this thread's operations may go to the device together: nothing is
        sure to have begun before it ends, or before a result is taken to the host."""

    def tvl1_memory(self, n: int, height: int, width: int) -> Any:
        """Memory for states of N pairs of at most this size, one after the other: what a process
        has used before costs it nothing the second time.

        Raises
        ------
        DeviceMemoryError
            If there is too little; fewer pairs may fit.
        """

    def tvl1_start(
        self, first: Any, second: Any, flow: Any | None, model: TVL1Model, memory: Any
    ) -> TVL1State:
        """State of one scale: images (N, H, W), flow (N, 2, H, W) (None: zero), p = 0.

        The second image's gradient is half the difference of both neighbours, indices clamped.
        """

    def tvl1_warps(self, state: Any, warps: int, n: int) -> Any:
        """So many times: set a, b, c, g from I1, I1x, I1y warped by the flow; then iterate, at most
        n times.

        Each pair goes from warp to warp by itself. Returns i32 (N,) iterations done in all.
        """

    def tvl1_flow(self, state: Any, out: Any) -> Any:
        """The flow of a state, written into f32 (N, 2, H, W) `out` and returned."""


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one frame, on the host."""

    points: Points
    """(K, 2) positions."""
    descriptors: NDArray[Any]
    """(K, B): uint64 words of bits, compared by Hamming distance, or float32, by Euclidean."""


class FeatureOps(Protocol):
    """Operations on the features of frames. Frames may lie on the device, features lie on the host.

    A frame's features and a pair's matches do not depend on the others of a call.
    """

    name: str
    """Backend, as in `Ops.name`."""
    own: bool
    """True where flowpipe's own code finds AKAZE keypoints; else OpenCV's contrib modules do."""

    def akaze(self, gray: Any, mask: NDArray[np.uint8] | None = None) -> list[Keypoints]:
        """Find the keypoints of images (N, H, W): those of OpenCV's AKAZE with one octave of one
        layer, threshold 2e-4, and upright M-LDB descriptors, uint64 (K, 8).

        There are none where the mask (N, H, W) is 0, nor in images under 16 pixels a side.
        """

    def corners(
        self,
        gray: Any,
        most: int,
        quality: float,
        apart_px: float,
        mask: NDArray[np.uint8] | None = None,
    ) -> list[Points]:
        """Find the corners of images (N, H, W) as cv2.goodFeaturesToTrack does: f32 (C, 2) of each,
        best first, C <= most.

        Quality is a share of the strongest corner; no two corners are closer than `apart_px`; none
        are where the mask (N, H, W) is 0.
        """

    def level_ranges(self, gray: Any, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the ranges of gray levels, greatest less least, (N, C) of images (N, H, W) at C
        groups of P pixels: places (C, P) in the flat order of an image."""

    def match_keypoints(
        self, pairs: Sequence[tuple[Keypoints, Keypoints]], window_px: float
    ) -> list[NDArray[np.int64]]:
        """Match the keypoints of pairs of frames: for each keypoint of the second frame, the index
        of the most similar one of the first that is less than `window_px` away in x and in y; -1
        where there is none.

        Descriptors are uint64 words, or f32 whole numbers. Of equally similar keypoints the first
        wins.
        """

    def homographies(
        self, in_first: Points, in_second: Points, threshold_px: float, most: int, least: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Homographies f64 (K, 3, 3) of matches f32 (M, 2), K <= most, and which matches agree with
        each, (K, M): those that it takes to less than the threshold from their place.

        RANSAC finds them one after the other. Each is searched among the matches that are not
        within 1.5 thresholds of one before it, and more than `least` of them agree with it. It is
        fitted by least squares to all matches that agree.
        """
