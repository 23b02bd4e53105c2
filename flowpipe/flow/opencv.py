"""Gray frames -> flow by OpenCV's CPU algorithms: DualTVL1, DIS, Farneback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.contrib import why_no_contrib
from flowpipe.flow.tvl1 import check_counts, check_letters
from flowpipe.ops import Ops

opencv: Any = cv2  # its type stubs lack optflow and allow no None as the initial flow
DIS_SMALLEST_PX = 16  # DIS asserts on smaller images, and at some presets crashes


@dataclass(frozen=True, kw_only=True)
class DualTVL1Params:
    """Settings that OpenCV's two implementations of dual TV-L1 share; the defaults are OpenCV's."""

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    scale_step: float = 0.8
    warps: int = 5
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if not 0.5 <= self.scale_step < 1:
            raise ValueError(f"scale_step must be in [0.5, 1), got {self.scale_step}")
        check_letters(self)


@dataclass(frozen=True, kw_only=True)
class OpenCVTVL1Params(DualTVL1Params):
    """Settings of cv2.optflow.DualTVL1OpticalFlow."""

    name: ClassVar[str] = "opencv_tvl1"
    inner_iterations: int = 30
    outer_iterations: int = 10
    median_filtering: int = 5
    """Window of the median filter of the flow: 1 (none), 3 or 5."""

    def __post_init__(self) -> None:
        if self.median_filtering not in (1, 3, 5):
            raise ValueError(f"median_filtering must be 1, 3 or 5, got {self.median_filtering}")
        super().__post_init__()
        check_counts(self, 1000, "scales", "warps", "inner_iterations", "outer_iterations")


@dataclass(frozen=True)
class DISParams:
    """Settings of cv2.DISOpticalFlow (Kroeger et al. 2016)."""

    name: ClassVar[str] = "dis"
    preset: Literal["ultrafast", "fast", "medium"] = "medium"


@dataclass(frozen=True, kw_only=True)
class FarnebackParams:
    """Settings of cv2.calcOpticalFlowFarneback; the defaults are dense_flow's."""

    name: ClassVar[str] = "farneback"
    pyramid_scale: float = 0.702
    levels: int = 5
    window: int = 10
    iterations: int = 2
    poly_n: int = 7
    poly_sigma: float = 1.5
    gaussian: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.pyramid_scale < 1:
            raise ValueError(f"pyramid_scale must be in (0, 1), got {self.pyramid_scale}")
        if not 0 < self.poly_sigma <= 100:
            raise ValueError(f"poly_sigma must be in (0, 100] pixels, got {self.poly_sigma}")
        check_counts(self, 1000, "levels", "window", "iterations", "poly_n")


class PairSolver:
    """Solver that calls a two-image algorithm pair by pair.

    Parameters
    ----------
    pair : callable
        Two uint8 images (H, W), C-contiguous -> their flow, float32 (H, W, 2).
    to_host : callable
        Copies frames from the backend's device to the host.
    """

    def __init__(
        self,
        pair: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]],
        to_host: Callable[[Any], NDArray[Any]] = np.asarray,
    ) -> None:
        self._pair, self._to_host = pair, to_host

    def prepare(self, gray: Any) -> NDArray[np.uint8]:
        """Fetch the frames to the host; pairs share nothing else.

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Gray frames, where the backend computes.

        Returns
        -------
        uint8 (N, H, W)
            The frames on the host.
        """
        frames: NDArray[np.uint8] = self._to_host(gray)
        if frames.dtype != np.uint8 or frames.ndim != 3 or min(frames.shape[1:]) < 1:
            raise ValueError(f"gray must be uint8 (N, H, W), got {frames.dtype} {frames.shape}")
        return frames

    def solve(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the flow of each pair.

        Parameters
        ----------
        first, second : uint8 (N, H, W)
            Frames on the host.

        Returns
        -------
        float32 (N, 2, H, W)
            Flow from each frame of `first` to that of `second`: pixels, u right, v down.
        """
        if first.shape != second.shape:
            raise ValueError(f"wanted frames of one shape, got {first.shape} and {second.shape}")
        flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
        for out, i0, i1 in zip(flow, first, second, strict=True):
            out[:] = self._pair(np.ascontiguousarray(i0), np.ascontiguousarray(i1)).transpose(
                2, 0, 1
            )
        return flow


def why_no_opencv_tvl1() -> str:
    """Return why cv2 has no dual TV-L1 here and what to do, or ""."""
    names = ("optflow.DualTVL1OpticalFlow_create",)
    return why_no_contrib("flow opencv_tvl1", names, "flow tvl1 or dis")


def opencv_tvl1_solver(params: OpenCVTVL1Params, ops: Ops) -> PairSolver:
    """Return a solver by cv2's dual TV-L1.

    Parameters
    ----------
    params : OpenCVTVL1Params
        Settings.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    PairSolver
        Solver on the CPU.
    """

    def pair(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        # The object lowers its own number of scales for a small image and keeps it lowered: a kept
        # one would treat later, larger images differently. Making one costs microseconds.
        p = params
        rows = len(first)
        if rows == 1:  # cv2 reads memory that it never wrote where an image has a single row
            first, second = (np.repeat(image, 2, axis=0) for image in (first, second))
        # A second level of half a pixel is asserted on; levels below 16 px are not used anyway.
        scales = p.scales if min(first.shape) > 1 else 1
        algorithm = opencv.optflow.DualTVL1OpticalFlow_create(
            p.tau, p.lambda_, p.theta, scales, p.warps, p.epsilon,
            p.inner_iterations, p.outer_iterations, p.scale_step, 0.0, p.median_filtering, False,
        )  # fmt: skip
        flow: NDArray[np.float32] = algorithm.calc(first, second, None)
        return flow[:rows]

    return PairSolver(pair, ops.to_host)


DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def dis_solver(params: DISParams, ops: Ops) -> PairSolver:
    """Return a solver by cv2's dense inverse search.

    Parameters
    ----------
    params : DISParams
        Settings.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    PairSolver
        Solver on the CPU.
    """

    def pair(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        if min(first.shape) < DIS_SMALLEST_PX:
            return np.zeros((*first.shape, 2), np.float32)
        algorithm = opencv.DISOpticalFlow_create(DIS_PRESETS[params.preset])
        flow: NDArray[np.float32] = algorithm.calc(first, second, None)
        return flow

    return PairSolver(pair, ops.to_host)


def farneback_solver(params: FarnebackParams, ops: Ops) -> PairSolver:
    """Return a solver by cv2's polynomial expansion.

    Parameters
    ----------
    params : FarnebackParams
        Settings.
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    PairSolver
        Solver on the CPU.
    """
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if params.gaussian else 0

    def pair(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        p = params
        flow: NDArray[np.float32] = opencv.calcOpticalFlowFarneback(
            first, second, None, p.pyramid_scale, p.levels, p.window, p.iterations, p.poly_n,
            p.poly_sigma, flags,
        )  # fmt: skip
        return flow

    return PairSolver(pair, ops.to_host)


def opencv_ran_on(ops: Ops) -> str:
    """Return what computes, as recorded in the store.

    Parameters
    ----------
    ops : Ops
        Not used: OpenCV computes on the CPU.

    Returns
    -------
    str
        Name and version of OpenCV.
    """
    return f"cv2 {cv2.__version__}"
