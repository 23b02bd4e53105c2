"""Flow algorithm name -> solver: the table FLOWS of all optical flow algorithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendError
from flowpipe.flow.opencv import (
    DISParams,
    FarnebackParams,
    OpenCVTVL1Params,
    dis_solver,
    farneback_solver,
    opencv_ran_on,
    opencv_tvl1_solver,
    why_no_opencv_tvl1,
)
from flowpipe.flow.opencv_cuda import (
    OpenCVCudaBroxParams,
    OpenCVCudaFarnebackParams,
    OpenCVCudaNvidiaParams,
    OpenCVCudaTVL1Params,
    opencv_cuda_brox_solver,
    opencv_cuda_farneback_solver,
    opencv_cuda_nvidia_solver,
    opencv_cuda_ran_on,
    opencv_cuda_tvl1_solver,
    why_no_cuda_class,
)
from flowpipe.flow.raft import RAFTParams, RAFTSolver, raft_ran_on, why_no_raft
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver
from flowpipe.ops import Ops

__all__ = ["FLOWS", "FlowRow", "FlowSolver", "Prepared", "make_solver"]


class Prepared(Protocol):
    """Intermediate results for N frames that consecutive pairs share, such as pyramids."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: slice) -> Any:
        """Return the intermediate results for a slice of the frames."""


class FlowSolver(Protocol):
    """Stateless solver: two stacks of frames -> the flow between them."""

    def prepare(self, frames: NDArray[np.uint8]) -> Prepared:
        """Compute what pairs share of each frame.

        Parameters
        ----------
        frames : uint8 (N, H, W) or (N, H, W, 3)
            Gray frames, or RGB for an algorithm that takes colour.

        Returns
        -------
        Prepared
            Intermediate results of N frames; a slice selects frames.
        """

    def solve(self, first: Any, second: Any) -> NDArray[np.float32]:
        """Compute the flow between prepared frames.

        Parameters
        ----------
        first, second : Prepared
            N frames each.

        Returns
        -------
        float32 (N, 2, H, W)
            Flow from each frame of `first` to that of `second`: pixels, u right, v down.
        """


@dataclass(frozen=True)
class FlowRow:
    """One flow algorithm: its settings class, its solver, and where it runs."""

    params: type
    solver: Callable[[Any, Ops], FlowSolver]
    ran_on: Callable[[Ops], str]
    """Return the name of the backend that computes it, as recorded in the store."""
    _: KW_ONLY
    own_gpu: bool = False
    """True if the algorithm runs on a GPU whatever device `Ops` uses."""
    why_not: Callable[[], str] = str
    """Return what the installed libraries lack and what to do, or "". Opens no GPU."""
    library: str = "OpenCV"
    """Library that computes it."""
    takes_colour: bool = False
    """True if frames are prepared in RGB, False if in gray."""


FLOWS: dict[str, FlowRow] = {
    "tvl1": FlowRow(TVL1Params, TVL1Solver, lambda ops: ops.name, library="flowpipe"),
    "opencv_tvl1": FlowRow(
        OpenCVTVL1Params, opencv_tvl1_solver, opencv_ran_on, why_not=why_no_opencv_tvl1
    ),
    "raft": FlowRow(
        RAFTParams,
        RAFTSolver,
        raft_ran_on,
        why_not=why_no_raft,
        library="torchvision",
        takes_colour=True,
    ),
    "dis": FlowRow(DISParams, dis_solver, opencv_ran_on),
    "farneback": FlowRow(FarnebackParams, farneback_solver, opencv_ran_on),
    "opencv_cuda_tvl1": FlowRow(
        OpenCVCudaTVL1Params,
        opencv_cuda_tvl1_solver,
        opencv_cuda_ran_on,
        own_gpu=True,
        why_not=partial(why_no_cuda_class, "OpticalFlowDual_TVL1"),
    ),
    "opencv_cuda_brox": FlowRow(
        OpenCVCudaBroxParams,
        opencv_cuda_brox_solver,
        opencv_cuda_ran_on,
        own_gpu=True,
        why_not=partial(why_no_cuda_class, "BroxOpticalFlow"),
    ),
    "opencv_cuda_farneback": FlowRow(
        OpenCVCudaFarnebackParams,
        opencv_cuda_farneback_solver,
        opencv_cuda_ran_on,
        own_gpu=True,
        why_not=partial(why_no_cuda_class, "FarnebackOpticalFlow"),
    ),
    "opencv_cuda_nvidia": FlowRow(
        OpenCVCudaNvidiaParams,
        opencv_cuda_nvidia_solver,
        opencv_cuda_ran_on,
        own_gpu=True,
        why_not=partial(why_no_cuda_class, "NvidiaOpticalFlow_2_0"),
    ),
}


def make_solver(params: Any, ops: Ops) -> FlowSolver:
    """Return the solver for the settings of an algorithm on a backend.

    Parameters
    ----------
    params : flow params
        Instance of one of the params classes in `FLOWS`.
    ops : Ops
        Backend of ``tvl1`` and device of ``raft``; OpenCV's algorithms run on the CPU or open a
        GPU themselves.

    Returns
    -------
    FlowSolver
        Solver of the algorithm.

    Raises
    ------
    BackendError
        If the algorithm cannot run here: no compiled core, no torch, an OpenCV without it, no GPU.
    """
    row = FLOWS[params.name]
    if why := row.why_not():
        raise BackendError(why)
    return row.solver(params, ops)
