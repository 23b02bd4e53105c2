"""Pairs and a GPU -> pairs per second by settings of the TV-L1 schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from flowpipe.diagnose.bench.flow import Progress, time_passes
from flowpipe.diagnose.bench.pairs import Pairs
from flowpipe.diagnose.bench.pairs_per_call import BATCHES
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver
from flowpipe.ops.cuda.settings import Settings, tiles

STEPS = (4, 8, 16)
CACHE_SHARES = (0.5, 1.0, 2.0, 4.0, 1000.0)
LEAST_TILES = (1, 2, 4)
BLOCKS = (1, 2)
"""Numbers of blocks to measure, with the other settings unchanged."""


@dataclass(frozen=True)
class TuningResult:
    """Throughput of TV-L1 with one choice of settings."""

    settings: Settings
    pairs_together: int
    """Number of full-size pairs that are processed together."""
    pairs_per_s: float
    """Pairs per second of wall time in the fastest pass, transfers included."""


def tune(
    ops: Any, pairs: Pairs, params: TVL1Params, repeat: int, progress: Progress | None = None
) -> Iterator[TuningResult]:
    """Measure TV-L1 with each choice of settings, the current ones first.

    Choices that process the same number of pairs together on every level are measured once.

    Parameters
    ----------
    ops : flowpipe.ops.cuda.operations.CudaOps
        Operations of the GPU; their settings are restored at the end.
    pairs : Pairs
        Frame pairs; they are repeated until a call is full.
    params : TVL1Params
        Settings of TV-L1.
    repeat : int
        Maximum number of passes.
    progress : callable, optional
        Called with a line of text when a step starts.

    Yields
    ------
    TuningResult
        Figures of one choice.
    """
    tell = progress or (lambda text: None)
    solver = TVL1Solver(params, ops)
    chosen = np.arange(BATCHES[-1]) % len(pairs.first)
    first, second = pairs.first[chosen], pairs.second[chosen]

    def solve() -> Any:
        flow = solver.solve(solver.prepare(first), solver.prepare(second))
        return ops.to_host(ops.quantise(flow, 20.0)[0])

    before, seen = ops.settings, set[tuple[int, ...]]()
    size = first.shape[1:]
    # A level of one tile is one launch with any settings.
    levels = [level for level in params.sizes(*size) if tiles(*level) != (1, 1)]
    choices = [Settings(*values) for values in product(STEPS, CACHE_SHARES, LEAST_TILES)]
    choices += [replace(before, blocks=blocks) for blocks in BLOCKS]
    try:
        for settings in (before, *choices):
            ops.settings = settings
            together = [min(len(chosen), ops.pairs_together(*level)) for level in levels]
            schedule = (settings.steps, settings.blocks, *together) if levels else ()
            if schedule in seen:
                continue
            seen.add(schedule)
            tell(f"measuring {settings}")
            solve()  # compiles kernels and records CUDA graphs
            seconds = min(time_passes(solve, repeat, progress)[1])
            full = min(len(chosen), ops.pairs_together(*size))
            yield TuningResult(settings, full, len(chosen) / seconds)
    finally:
        ops.settings = before
