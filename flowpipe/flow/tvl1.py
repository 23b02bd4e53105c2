"""Gray frames -> flow: dual TV-L1 (Zach, Pock, Bischof 2007), coarse to fine, on any backend.

This module alone holds the scales, the warps and the stopping rule. The published variants:

``opencv2``      cv::gpu::OpticalFlowDual_TVL1_GPU of OpenCV 2.4, which the original TSN models were
                 trained on: levels halve, so that large motion is found.
``opencv4``      cv::cuda::OpticalFlowDual_TVL1 of OpenCV 3 and 4: levels shrink by 0.8.
``opencv4_cpu``  cv::optflow::DualTVL1OpticalFlow of OpenCV 3 and 4, their CPU code: levels shrink
                 by 0.8; the interpolation differs, and the flow is median filtered.
``opencv5_cpu``  the CPU code of OpenCV 5, whose cv::remap no longer rounds to 1/32 px.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from flowpipe.errors import DeviceMemoryError
from flowpipe.ops import Ops, TVL1Model
from flowpipe.words import count_noun

SMALLEST_LEVEL_PX = 16  # a level with fewer rows or columns is not made


class Variant(NamedTuple):
    """Differences between the versions of OpenCV, as `flowpipe.ops` names them."""

    rule: str
    """Rule of `Ops.pyramid` and `Ops.upsample`."""
    sampling: str
    spaced: bool
    """True if convergence is checked at adaptive intervals, False after each iteration."""
    filters: bool
    """True if the flow is median filtered."""


VARIANTS = {
    "opencv2": Variant("pyrdown", "catmull_rom", True, False),
    "opencv4": Variant("bilinear", "catmull_rom", True, False),
    "opencv4_cpu": Variant("centred", "thirtyseconds", False, True),
    "opencv5_cpu": Variant("centred", "keys", False, True),
}


@dataclass(frozen=True, kw_only=True)
class TVL1Params:
    """Settings of TV-L1, named as in the paper; the defaults are those of all OpenCV versions."""

    name: ClassVar[str] = "tvl1"
    variant: Literal["opencv2", "opencv4", "opencv4_cpu", "opencv5_cpu"] = "opencv2"
    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    """Largest number of levels; a level has at least 16 rows and columns."""
    scale_step: float = 0.8
    """Size of a level relative to the next finer one; ``opencv2`` ignores it and halves."""
    warps: int = 5
    epsilon: float = 0.01
    """A warp ends when the root mean square change of the flow in one iteration is at most this."""
    iterations: int = 300
    """Largest number of iterations per warp."""
    strict_stop: bool = False
    """End a warp at the iteration where OpenCV ends it, not at the end of that block of iterations.
    The ``_cpu`` variants, which exist to compare with cv2, always do. If False, the flow bytes
    differ from OpenCV's: see docs/flow.md."""
    block: int = 4
    """Iterations per block. A longer block helps small, fast objects, and runs more iterations per
    pass through the cache."""
    median: int = 5
    """Window of the median filter of the flow, 1 (none), 3 or 5; the ``_cpu`` variants only."""
    inner_iterations: int = 30
    """Iterations between two median filters; the ``_cpu`` variants only."""

    def __post_init__(self) -> None:
        check_letters(self)
        if not 0.25 <= self.scale_step <= 0.95:
            raise ValueError(f"scale_step must be in [0.25, 0.95], got {self.scale_step}")
        if self.median not in (1, 3, 5):
            raise ValueError(f"median must be 1, 3 or 5, got {self.median}")
        check_counts(self, 10_000, "scales", "warps", "iterations", "block", "inner_iterations")

    @property
    def step(self) -> float:
        """Size of a level relative to the next finer one."""
        return 0.5 if VARIANTS[self.variant].rule == "pyrdown" else self.scale_step

    @property
    def model(self) -> TVL1Model:
        """Constants of one scale for a backend."""
        variant = VARIANTS[self.variant]
        return TVL1Model(
            tau=self.tau,
            lambda_=self.lambda_,
            theta=self.theta,
            epsilon=self.epsilon,
            block=self.block if variant.spaced and not self.strict_stop else 1,
            spaced=variant.spaced,
            sampling=variant.sampling,
            median=self.median if variant.filters else 1,
            median_every=self.inner_iterations,
        )

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Compute the size of every level.

        Parameters
        ----------
        height, width : int
            Size of the frames, pixels.

        Returns
        -------
        tuple of (rows, columns)
            Finest level first.
        """
        sizes = [(height, width)]
        while len(sizes) < self.scales:
            h, w = sizes[-1]
            # Python's round is half to even, as cvRound is.
            h, w = (
                ((h + 1) // 2, (w + 1) // 2)
                if VARIANTS[self.variant].rule == "pyrdown"
                else (round(h * self.step), round(w * self.step))
            )
            if min(h, w) < SMALLEST_LEVEL_PX:
                break
            sizes.append((h, w))
        return tuple(sizes)


def check_letters(params: Any) -> None:
    """Raise ValueError unless tau, lambda, theta and epsilon are in range.

    Parameters
    ----------
    params : TVL1Params or OpenCVTVL1Params
        Settings with these fields.
    """
    for letter in ("tau", "lambda_", "theta"):
        if not 0 < getattr(params, letter) <= 10:
            raise ValueError(f"{letter} must be in (0, 10], got {getattr(params, letter)}")
    if not 0 <= params.epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1] pixels, got {params.epsilon}")


def check_counts(params: Any, most: int, *names: str) -> None:
    """Raise ValueError for a count below 1 or above a limit.

    Parameters
    ----------
    params : flow params
        Settings with these fields.
    most : int
        Largest count allowed.
    *names : str
        Fields to check.
    """
    for name in names:
        if not 1 <= getattr(params, name) <= most:
            raise ValueError(f"{name} must be in [1, {most}], got {getattr(params, name)}")


class Pyramids:
    """Levels of N frames, finest first, which consecutive pairs share; a slice selects frames.

    Parameters
    ----------
    levels : sequence of float32 (N, rows, columns)
        Levels, finest first.
    """

    def __init__(self, levels: Sequence[Any]) -> None:
        self.levels = tuple(levels)

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, frames: slice) -> Pyramids:
        return Pyramids([level[frames] for level in self.levels])


class TVL1Solver:
    """Dual TV-L1 on the operations of one backend.

    Parameters
    ----------
    params : TVL1Params
        Settings.
    ops : Ops
        Backend that computes.
    """

    def __init__(self, params: TVL1Params, ops: Ops) -> None:
        self.params, self.ops = params, ops
        self.model, self.rule = params.model, VARIANTS[params.variant].rule
        self._pairs_at_once: dict[tuple[int, int], int] = {}  # sizes that had too little memory

    def prepare(self, gray: Any) -> Pyramids:
        """Build the pyramids of frames.

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Gray frames.

        Returns
        -------
        Pyramids
            Levels of N frames.
        """
        sizes = self.params.sizes(*gray.shape[1:])
        return Pyramids(self.ops.pyramid(gray, sizes, self.rule, self.params.step))

    def solve(self, first: Pyramids, second: Pyramids) -> Any:
        """Compute the flow between frames.

        The flow of a pair depends on its two frames only.

        Parameters
        ----------
        first, second : Pyramids
            N frames each.

        Returns
        -------
        float32 (N, 2, H, W)
            Flow from each frame of `first` to that of `second`: pixels, u right, v down.

        Raises
        ------
        DeviceMemoryError
            If the device lacks memory for a single pair.
        """
        if len(first) != len(second):
            raise ValueError(
                f"wanted as many first as second frames, got {len(first)}, {len(second)}"
            )
        size = first.levels[0].shape[1:]
        step = self._pairs_at_once.get(size) or self.ops.pairs_at_once(*size)
        flow, k = self.ops.empty(len(first), 2, *size), 0
        while k < len(first):
            pairs = slice(k, k + step)
            try:
                with self.ops.batch_launches():
                    memory = self.ops.tvl1_memory(min(step, len(first)), *size)
                    self._solve(first[pairs], second[pairs], memory, flow[pairs])
            except DeviceMemoryError:
                memory, tried = None, min(step, len(first) - k)
                if tried < 2:
                    raise
                step = self._fewer(tried, size)
                continue
            k += step
        return flow

    def _fewer(self, pairs: int, size: tuple[int, int]) -> int:
        """Halve the pairs per call for this size, with a warning; return the new number."""
        warnings.warn(
            f"{self.ops.name}: too little device memory for {count_noun(pairs, 'pair')} of "
            f"{size[1]}x{size[0]} at once; continuing with {pairs // 2}",
            RuntimeWarning,
            stacklevel=2,
        )
        self._pairs_at_once[size] = pairs // 2
        return pairs // 2

    def _solve(self, first: Pyramids, second: Pyramids, memory: Any, out: Any) -> None:
        flow = None
        for i0, i1 in zip(reversed(first.levels), reversed(second.levels), strict=True):
            n, height, width = i0.shape
            if flow is not None:
                flow = self.ops.upsample(flow, height, width, 1 / self.params.step, self.rule)
            # p starts from zero at each scale, not at each warp, as in all OpenCV versions.
            state = self.ops.tvl1_start(i0, i1, flow, self.model, memory)
            self.ops.tvl1_warps(state, self.params.warps, self.params.iterations)
            finest = i0 is first.levels[0]
            flow = self.ops.tvl1_flow(state, out if finest else self.ops.empty(n, 2, height, width))
