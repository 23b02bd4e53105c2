"""Gray frames -> flow by OpenCV's CUDA algorithms: TV-L1, Brox, Farneback, NVIDIA's hardware.

They run where cv2 was built with CUDA (docs/opencv-cuda.md), on the first GPU that the process
sees, wherever the rest is computed; CuPy is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendError, DeviceLostError, DeviceMemoryError, FlowpipeError
from flowpipe.flow.opencv import DualTVL1Params, PairSolver
from flowpipe.flow.tvl1 import check_counts
from flowpipe.ops import Ops
from flowpipe.ops.cuda.devices import first_gpu_name

opencv: Any = cv2  # its type stubs lack the CUDA classes
GrayImage = NDArray[np.uint8]
Size = tuple[int, int]

SMALLEST_PX = 16
"""Smallest side that gets flow; smaller images get zero, as with DIS. Brox's derivatives exceed
them, and textures of one row or column have no valid pitch."""
TRIED_SIZE = 340, 256
"""(width, height) at which a new solver tries its algorithm: the size of the recipes, since the
object is kept and a session of NVIDIA Optical Flow is slow to open."""
OF_CUDA = -217  # cv2.Error.GpuApiCallError: CUDA or the driver failed, whatever the frames are
WIDEST_WINDOW_PX = 201  # the GPU's constant memory holds half a Gaussian of this size


@dataclass(frozen=True, kw_only=True)
class OpenCVCudaTVL1Params(DualTVL1Params):
    """Settings of cv2.cuda.OpticalFlowDual_TVL1."""

    name: ClassVar[str] = "opencv_cuda_tvl1"
    iterations: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, 10_000, "scales", "warps", "iterations")


@dataclass(frozen=True, kw_only=True)
class OpenCVCudaBroxParams:
    """Settings of cv2.cuda.BroxOpticalFlow (Brox et al. 2004); the defaults are dense_flow's."""

    name: ClassVar[str] = "opencv_cuda_brox"
    alpha: float = 0.197
    """Weight of the smoothness term."""
    gamma: float = 50.0
    """Weight of gradient constancy relative to brightness constancy."""
    scale_step: float = 0.8
    inner_iterations: int = 10
    outer_iterations: int = 77
    """Largest number of levels; a level with a side of 15 px or less is the last."""
    solver_iterations: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1000:
            raise ValueError(f"alpha must be in (0, 1000], got {self.alpha}")
        if not 0 <= self.gamma <= 10_000:
            raise ValueError(f"gamma must be in [0, 10000], got {self.gamma}")
        if not 0.5 <= self.scale_step <= 0.99:
            raise ValueError(f"scale_step must be in [0.5, 0.99], got {self.scale_step}")
        check_counts(self, 1000, "inner_iterations", "outer_iterations", "solver_iterations")


@dataclass(frozen=True, kw_only=True)
class OpenCVCudaFarnebackParams:
    """Settings of cv2.cuda.FarnebackOpticalFlow; the defaults are OpenCV's and dense_flow's."""

    name: ClassVar[str] = "opencv_cuda_farneback"
    pyramid_scale: float = 0.5
    levels: int = 5
    fast_pyramids: bool = False
    window: int = 13
    iterations: int = 10
    poly_n: int = 5
    poly_sigma: float = 1.1
    gaussian: bool = False

    def __post_init__(self) -> None:
        if not 0.1 <= self.pyramid_scale < 1:
            raise ValueError(f"pyramid_scale must be in [0.1, 1), got {self.pyramid_scale}")
        if self.fast_pyramids and self.pyramid_scale != 0.5:
            raise ValueError("with fast_pyramids, which halve, pyramid_scale must be 0.5")
        if self.poly_n not in (5, 7):
            raise ValueError(f"poly_n must be 5 or 7, got {self.poly_n}")
        if not 0 < self.poly_sigma <= 100:
            raise ValueError(f"poly_sigma must be in (0, 100] pixels, got {self.poly_sigma}")
        check_counts(self, WIDEST_WINDOW_PX, "window")
        if self.window % 2 == 0:  # OpenCV takes the next odd one for it, and skews a Gaussian
            raise ValueError(f"window must be odd, got {self.window}")
        check_counts(self, 1000, "levels", "iterations")


@dataclass(frozen=True)
class OpenCVCudaNvidiaParams:
    """Settings of cv2.cuda.NvidiaOpticalFlow_2_0, a hardware unit of most GPUs since Turing."""

    name: ClassVar[str] = "opencv_cuda_nvidia"
    preset: Literal["slow", "medium", "fast"] = "slow"
    grid: Literal[1, 2, 4] = 1
    """Side of the blocks that share a flow vector, pixels. Turing computes 4 only, and OpenCV
    repeats its vectors."""


def opencv_cuda_tvl1_solver(params: OpenCVCudaTVL1Params, ops: Ops) -> PairSolver:
    """Return a solver by cv2.cuda's dual TV-L1.

    Parameters
    ----------
    params : OpenCVCudaTVL1Params
        Settings.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    PairSolver
        Solver on the first GPU.

    Raises
    ------
    BackendError
        If cv2 lacks the class or there is no GPU.
    """
    p, create = params, cuda_class("OpticalFlowDual_TVL1").create

    def make(size: Size) -> Any:
        return create(
            p.tau, p.lambda_, p.theta, p.scales, p.warps, p.epsilon, p.iterations, p.scale_step,
            0.0, False,
        )  # fmt: skip

    return _solver(params, ops, make, _calc)


def opencv_cuda_brox_solver(params: OpenCVCudaBroxParams, ops: Ops) -> PairSolver:
    """Return a solver by cv2.cuda's Brox.

    Parameters
    ----------
    params : OpenCVCudaBroxParams
        Settings.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    PairSolver
        Solver on the first GPU.

    Raises
    ------
    BackendError
        If cv2 lacks the class or there is no GPU.
    """
    p, create = params, cuda_class("BroxOpticalFlow").create

    def make(size: Size) -> Any:
        return create(
            p.alpha, p.gamma, p.scale_step, p.inner_iterations, p.outer_iterations,
            p.solver_iterations,
        )  # fmt: skip

    def calc(algorithm: Any, first: GrayImage, second: GrayImage) -> NDArray[np.float32]:
        # Its constants are for images in [0, 1].
        return _calc(algorithm, *(image.astype(np.float32) / 255 for image in (first, second)))

    return _solver(params, ops, make, calc)


def opencv_cuda_farneback_solver(params: OpenCVCudaFarnebackParams, ops: Ops) -> PairSolver:
    """Return a solver by cv2.cuda's polynomial expansion.

    Parameters
    ----------
    params : OpenCVCudaFarnebackParams
        Settings.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    PairSolver
        Solver on the first GPU.

    Raises
    ------
    BackendError
        If cv2 lacks the class or there is no GPU.
    """
    p, create = params, cuda_class("FarnebackOpticalFlow").create
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if p.gaussian else 0

    def make(size: Size) -> Any:
        return create(
            p.levels, p.pyramid_scale, p.fast_pyramids, p.window, p.iterations, p.poly_n,
            p.poly_sigma, flags,
        )  # fmt: skip

    return _solver(params, ops, make, _calc)


NVIDIA_PRESETS = {"slow": 5, "medium": 10, "fast": 20}  # NV_OF_PERF_LEVEL_*


def opencv_cuda_nvidia_solver(params: OpenCVCudaNvidiaParams, ops: Ops) -> PairSolver:
    """Return a solver by NVIDIA Optical Flow in cv2.cuda.

    Parameters
    ----------
    params : OpenCVCudaNvidiaParams
        Settings.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    PairSolver
        Solver on the first GPU.

    Raises
    ------
    BackendError
        If cv2 lacks the class or there is no GPU.
    """
    create, grid = cuda_class("NvidiaOpticalFlow_2_0").create, params.grid

    def make(size: Size) -> Any:
        # No hints, so that a pair's flow depends on its frames only; no costs; the first GPU.
        return create(size, NVIDIA_PRESETS[params.preset], grid, 1, False, False, False, 0)

    def calc(session: Any, first: GrayImage, second: GrayImage) -> NDArray[np.float32]:
        # Images and vectors are on the host. Vectors are 16-bit fixed point with 5 fractional bits,
        # in pixels of the image at any grid. Blocks extend beyond the border.
        vectors = session.calc(first, second, None)[0]
        coarse: NDArray[np.float32] = session.convertToFloat(vectors, None)
        height, width = first.shape
        return coarse.repeat(grid, 0).repeat(grid, 1)[:height, :width]

    return _solver(params, ops, make, calc)


def opencv_cuda_ran_on(ops: Ops) -> str:
    """Return what computes, as recorded in the store.

    Parameters
    ----------
    ops : Ops
        Not used: OpenCV opens the first GPU itself.

    Returns
    -------
    str
        Version of OpenCV and name of the GPU.
    """
    return f"cv2.cuda {cv2.__version__} on {first_gpu_name() or 'a GPU without a name'}"


WANTED = "docs/opencv-cuda.md says how to build it; flow tvl1 needs none of that"


def why_no_cuda_class(name: str) -> str:
    """Explain why cv2.cuda lacks a class. Opens no GPU.

    Parameters
    ----------
    name : str
        Name of the class in ``cv2.cuda``.

    Returns
    -------
    str
        The reason and what to do; "" if cv2 has the class.
    """
    if hasattr(cv2, f"cuda_{name}"):
        return ""
    return (
        f"cv2 {cv2.__version__} has no cuda.{name}: it needs an OpenCV built with CUDA and "
        f"contrib; the PyPI wheels are not; {WANTED}"
    )


def cuda_class(name: str) -> Any:
    """Return a class of cv2.cuda.

    Parameters
    ----------
    name : str
        Name of the class in ``cv2.cuda``.

    Returns
    -------
    type
        The class.

    Raises
    ------
    BackendError
        If cv2 lacks the class or there is no GPU.
    """
    if lack := why_no_cuda_class(name):
        raise BackendError(lack)
    if cv2.cuda.getCudaEnabledDeviceCount() < 1:  # some classes then abort the process
        raise BackendError(
            f"cv2 {cv2.__version__} finds no CUDA device for cuda.{name}: it takes a GPU that "
            f"CUDA_VISIBLE_DEVICES shows and a driver for the CUDA it was built with; {WANTED}"
        )
    return getattr(cv2, f"cuda_{name}")


def _solver(
    params: Any,
    ops: Ops,
    make: Callable[[Size], Any],
    calc: Callable[[Any, GrayImage, GrayImage], NDArray[np.float32]],
) -> PairSolver:
    # One object per size: TV-L1 lowers its number of scales for a small image and keeps it lowered,
    # a session of NVIDIA's belongs to one size. A recipe has one size, or few.
    kept = lru_cache(maxsize=4)(make)

    def pair(first: GrayImage, second: GrayImage) -> NDArray[np.float32]:
        height, width = first.shape
        if min(height, width) < SMALLEST_PX:
            return np.zeros((height, width, 2), np.float32)
        try:
            return calc(kept((width, height)), first, second)
        except cv2.error as error:
            words = _describe_failure(params.name, (width, height), error)
            if getattr(error, "code", 0) == OF_CUDA:
                kind = DeviceMemoryError if "out of memory" in words else DeviceLostError
                raise kind(words) from error
            # Not a BackendError, which ends a run: it may be this video's size that is refused.
            raise FlowpipeError(words, reason="backend") from error

    try:
        kept(TRIED_SIZE)
    except cv2.error as error:
        raise BackendError(_describe_failure(params.name, TRIED_SIZE, error)) from error
    return PairSolver(pair, ops.to_host)


def _calc(algorithm: Any, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float32]:
    """Upload two images and return their flow; `download` waits for the device."""
    frames = opencv.cuda_GpuMat(), opencv.cuda_GpuMat()
    for frame, image in zip(frames, (first, second), strict=True):
        frame.upload(image)  # what fails in GpuMat(image) is a SystemError, not a cv2.error
    return np.asarray(algorithm.calc(*frames, None).download())


def _describe_failure(name: str, size: Size, error: cv2.error) -> str:
    return (
        f"flow {name} does not run with cv2 {cv2.__version__} on frames of {size[0]}x{size[1]} "
        f"here ({' '.join(str(error).split())}); docs/opencv-cuda.md says what it takes"
    )
