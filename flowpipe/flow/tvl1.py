"""Gray frames -> flow: dual TV-L1 (Zach, Pock, Bischof 2007), coarse to fine, on any backend.

The only place that knows the scales, the warps and when to stop. Two published variants:

``opencv2``  cv::gpu::OpticalFlowDual_TVL1_GPU of OpenCV 2.4, which the original TSN models were
             trained on: levels halve, so that large motion is found.
``opencv4``  cv::cuda::OpticalFlowDual_TVL1 of OpenCV 3 and 4: levels shrink by 0.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops import Ops, TVL1Model

SMALLEST_LEVEL_PX = 16  # a level with fewer rows or columns is not made


@dataclass(frozen=True)
class TVL1Params:
    """Settings of TV-L1, by the paper's letters; the defaults are OpenCV's, all versions."""

    name: ClassVar[str] = "tvl1"
    variant: Literal["opencv2", "opencv4"] = "opencv2"
    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    """Most levels; a small image gets as many as it has room for."""
    warps: int = 5
    epsilon: float = 0.01
    """A warp ends when the root mean square change of the flow in one iteration is at most this."""
    iterations: int = 300
    """Most iterations per warp."""
    block: int = 8
    """Iterations between two tests of that change; 1 tests each, as OpenCV's CPU code does."""

    def __post_init__(self) -> None:
        for letter in ("tau", "lambda_", "theta"):
            if not 0 < getattr(self, letter) <= 10:
                raise ValueError(f"{letter} must be in (0, 10], got {getattr(self, letter)}")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must be in [0, 1] pixels, got {self.epsilon}")
        for count in ("scales", "warps", "iterations", "block"):
            if not 1 <= getattr(self, count) <= 10_000:
                raise ValueError(f"{count} must be in [1, 10000], got {getattr(self, count)}")

    @property
    def step(self) -> float:
        """Size of a level relative to the next finer one."""
        return 0.5 if self.variant == "opencv2" else 0.8

    @property
    def rule(self) -> str:
        """How a level is made from the next finer one, as `Ops.pyramid` calls it."""
        return "pyrdown" if self.variant == "opencv2" else "bilinear0.8"

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of every level, finest first."""
        sizes = [(height, width)]
        while len(sizes) < self.scales:
            h, w = sizes[-1]
            # Python's round is half to even, as cvRound is.
            h, w = (
                ((h + 1) // 2, (w + 1) // 2)
                if self.step == 0.5
                else (round(h * 0.8), round(w * 0.8))
            )
            if min(h, w) < SMALLEST_LEVEL_PX:
                break
            sizes.append((h, w))
        return tuple(sizes)


class Pyramids:
    """Levels of N frames, finest first: what consecutive pairs share. Slice it by frames."""

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
    ops : Ops
    """

    def __init__(self, params: TVL1Params, ops: Ops) -> None:
        self.params, self.ops = params, ops
        self.model = TVL1Model(
            params.tau, params.lambda_, params.theta, params.epsilon, params.block
        )

    def prepare(self, gray: NDArray[np.uint8]) -> Pyramids:
        """Gray frames (N, H, W) -> their pyramids."""
        sizes = self.params.sizes(*gray.shape[1:])
        return Pyramids(self.ops.pyramid(gray, sizes, self.params.rule))

    def solve(self, first: Pyramids, second: Pyramids) -> Any:
        """Flow f32 (N, 2, H, W) from each frame of `first` to the same of `second`, in pixels.

        A pair's flow depends on its two frames only, not on the pairs beside it.
        """
        if len(first) != len(second):
            raise ValueError(
                f"wanted as many first as second frames, got {len(first)}, {len(second)}"
            )
        if not len(first):
            height, width = first.levels[0].shape[1:]
            return np.empty((0, 2, height, width), np.float32)
        step = self.ops.pairs_at_once
        parts = [
            self._solve(first[k : k + step], second[k : k + step])
            for k in range(0, len(first), step)
        ]
        return parts[0] if len(parts) == 1 else self.ops.concatenate(parts)

    def _solve(self, first: Pyramids, second: Pyramids) -> Any:
        flow = None
        for i0, i1 in zip(reversed(first.levels), reversed(second.levels), strict=True):
            if flow is not None:
                height, width = i0.shape[1:]
                flow = self.ops.upsample(flow, height, width, 1 / self.params.step)
            # p starts from zero at each scale, not at each warp, as in all OpenCV versions.
            state = self.ops.tvl1_start(i0, self.ops.centered_gradient(i1), flow, self.model)
            for _ in range(self.params.warps):
                self.ops.warp_linearise(state)
                self.ops.tvl1_iterate(state, self.params.iterations)
            flow = self.ops.tvl1_flow(state)
        return flow
