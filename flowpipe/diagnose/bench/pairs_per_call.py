"""Pairs and a device -> pairs per second by pairs per call, and the share of peak FLOP/s."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowpipe.diagnose.bench.flow import Progress, time_passes
from flowpipe.diagnose.bench.pairs import Pairs
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver
from flowpipe.ops import Ops, get_ops
from flowpipe.words import count_noun

BATCHES = (1, 2, 4, 8, 16, 32, 64)
FLOP = 49  # per pixel and iteration; roots, quotients and comparisons count as one each


@dataclass(frozen=True)
class Throughput:
    """Throughput of TV-L1 at one number of pairs per call."""

    pairs: int
    pairs_per_s: float
    """Pairs per second of wall time in the fastest pass, transfers included."""
    share: float | None
    """Share of the device's peak single-precision FLOP/s that the iterations reach; None if the
    peak is unknown."""


def measure_throughput(
    ops: Ops, pairs: Pairs, params: TVL1Params, repeat: int, progress: Progress | None = None
) -> Iterator[Throughput]:
    """Measure the throughput of TV-L1 with more and more pairs per call.

    Parameters
    ----------
    ops : Ops
        Operations of the device.
    pairs : Pairs
        Frame pairs; they are repeated if a call needs more.
    params : TVL1Params
        Settings of TV-L1.
    repeat : int
        Maximum number of passes.
    progress : callable, optional
        Called with a line of text when a step starts.

    Yields
    ------
    Throughput
        Figures of one number of pairs.
    """
    tell = progress or (lambda text: None)
    solver = TVL1Solver(params, ops)
    tell(f"counting the iterations of {count_noun(len(pairs.first), 'pair')} on the CPU")
    work = np.array(
        [
            pixel_iterations(params, pairs.first[k : k + 1], pairs.second[k : k + 1])
            for k in range(len(pairs.first))
        ]
    )
    for count in BATCHES:
        chosen = np.arange(count) % len(pairs.first)
        first, second = pairs.first[chosen], pairs.second[chosen]

        def solve(first: Any = first, second: Any = second) -> Any:
            flow = solver.solve(solver.prepare(first), solver.prepare(second))
            return ops.to_host(ops.quantise(flow, 20.0)[0])

        tell(f"measuring {count_noun(count, 'pair')} per call")
        solve()
        seconds = min(time_passes(solve, repeat, progress)[1])
        flops, peak = FLOP * work[chosen].sum() / seconds, ops.peak_flops()
        yield Throughput(count, count / seconds, flops / peak if peak else None)


def pixel_iterations(params: TVL1Params, first: Any, second: Any) -> int:
    """Count iterations times pixels of a pair on the CPU.

    Parameters
    ----------
    params : TVL1Params
        Settings of TV-L1.
    first, second : uint8 (1, H, W)
        Gray frames of the pair.

    Returns
    -------
    int
        Sum over all levels.
    """
    counting = _Counted(get_ops())
    solver = TVL1Solver(params, counting)
    solver.solve(solver.prepare(first), solver.prepare(second))
    return counting.total


class _Counted:
    """Operations that count iterations times pixels of TV-L1."""

    def __init__(self, ops: Ops) -> None:
        self._ops, self.total = ops, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def tvl1_warps(self, state: Any, warps: int, n: int) -> Any:
        done = self._ops.tvl1_warps(state, warps, n)
        self.total += int(self._ops.to_host(done).sum()) * state.first[0].size
        return done
