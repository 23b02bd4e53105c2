"""Flow algorithm name -> solver: FLOWS, the table of all that turns two frames into a flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.opencv import (
    DISParams,
    FarnebackParams,
    OpenCVTVL1Params,
    dis_solver,
    farneback_solver,
    opencv_tvl1_solver,
)
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver
from flowpipe.ops import Ops

__all__ = ["FLOWS", "FlowRow", "FlowSolver", "Prepared", "make_solver"]


class Prepared(Protocol):
    """What a solver keeps of N frames so that consecutive pairs can share it."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: slice) -> Any:
        """The same for some of the frames."""


class FlowSolver(Protocol):
    """Two stacks of frames -> the flow between them. Keeps nothing from one call to the next."""

    def prepare(self, gray: NDArray[np.uint8]) -> Prepared:
        """Gray frames (N, H, W) -> whatever is computed once per frame."""

    def solve(self, first: Any, second: Any) -> NDArray[np.float32]:
        """Prepared frames -> flow (N, 2, H, W) in pixels, u right, v down."""


class FlowRow(NamedTuple):
    """One algorithm: its settings, and what makes a solver of them."""

    params: type
    solver: Callable[[Any, Ops], FlowSolver]


FLOWS: dict[str, FlowRow] = {
    "tvl1": FlowRow(TVL1Params, TVL1Solver),
    "opencv_tvl1": FlowRow(OpenCVTVL1Params, opencv_tvl1_solver),
    "dis": FlowRow(DISParams, dis_solver),
    "farneback": FlowRow(FarnebackParams, farneback_solver),
}


def make_solver(params: Any, ops: Ops) -> FlowSolver:
    """The solver for some settings, on some backend.

    Parameters
    ----------
    params : an instance of one of the params classes in `FLOWS`
    ops : Ops
        Used by ``tvl1``; OpenCV's algorithms always run on the CPU.

    Raises
    ------
    BackendError
        If the algorithm cannot run here: no compiled core, or an OpenCV built without it.
    """
    return FLOWS[params.name].solver(params, ops)
