"""Rows and pairs -> Figures: CPU time of one thread per pair, and the distance to a reference.

A row's time is that of its fastest pass over all pairs, which other load on the machine disturbs
least; the spread between its passes shows how much it did. A frame is prepared anew for each pair,
though neighbours in a video share that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.diagnose.bench.candidates import PEER, Row
from flowpipe.diagnose.bench.pairs import Pairs

Progress = Callable[[str], None]

ENOUGH_S = 20.0
"""A row that has taken this long gets no third pass."""


@dataclass(frozen=True)
class Figures:
    """Measurements of one row."""

    ms_cpu: float
    """CPU milliseconds per pair, all threads of the process, in the fastest pass."""
    ms_wall: float
    clock: str
    """Which of both is the cost, of which the next two speak: ``cpu``, or ``wall`` for a GPU."""
    pairs_per_s: float
    ratio: float | None
    """How many times faster than the reference; None where that did not run."""
    passes: int
    spread: float | None
    """(slowest - fastest) / fastest pass; None after a single one."""
    difference_px: float | None
    """Mean endpoint difference to the reference's flow, over all pixels of all pairs."""


class Meter:
    """Measures rows on the same pairs, the reference before all others.

    Parameters
    ----------
    pairs : Pairs
    repeat : int
        Most passes over the pairs; slow rows get two.
    reference : str
        Name of the row that the others are compared to; empty for none.
    progress : callable, optional
        Called with a line of text when a pass begins.
    """

    def __init__(
        self, pairs: Pairs, repeat: int, reference: str = PEER, progress: Progress | None = None
    ) -> None:
        self.pairs, self.repeat, self.reference = pairs, repeat, reference
        self.progress = progress
        self._reference_ms: float | None = None
        self._reference_flow: NDArray[np.float32] | None = None

    def measure(self, row: Row) -> Figures:
        """Solve every pair several times; raises what the row's backend raises."""
        solver = row.solver()

        def solve() -> Any:
            return solver.solve(
                solver.prepare(self.pairs.first[:count]),
                solver.prepare(self.pairs.second[:count]),
            )

        count = 1
        solve()  # what only the first call pays: pages, contexts, imports
        count = len(self.pairs.first)
        cpu_s, wall_s, flow = passes(solve, self.repeat, self.progress)
        costs = cpu_s if row.on_cpu else wall_s
        ms = 1000 * min(costs) / count
        if row.name == self.reference:
            self._reference_ms, self._reference_flow = ms, flow
        return Figures(
            ms_cpu=1000 * min(cpu_s) / count,
            ms_wall=1000 * min(wall_s) / count,
            clock="cpu" if row.on_cpu else "wall",
            pairs_per_s=1000 / ms,
            ratio=None if self._reference_ms is None else self._reference_ms / ms,
            passes=len(costs),
            spread=max(costs) / min(costs) - 1 if len(costs) > 1 else None,
            difference_px=None if self._reference_flow is None else self._difference_px(flow),
        )

    def _difference_px(self, flow: NDArray[np.float32]) -> float:
        return float(endpoint_px(flow, self._reference_flow).mean(dtype=np.float64))


def refusals(rows: Iterable[Row]) -> dict[str, str]:
    """Name of a row that cannot run here -> why, and what to install; tried on a tiny pair."""
    tiny = np.zeros((1, 64, 64), np.uint8)
    reasons = {}
    for row in rows:
        try:
            solver = row.solver()
            solver.solve(solver.prepare(tiny), solver.prepare(tiny))
        except Exception as error:  # whatever a foreign library raises costs its own row only
            reasons[row.name] = str(error) or type(error).__name__
    return reasons


def endpoint_px(flow: NDArray[np.float32], other: Any) -> NDArray[np.float32]:
    """Length in px of the difference of two flows (N, 2, H, W), at each pixel (N, H, W)."""
    difference = flow - other
    return np.hypot(difference[:, 0], difference[:, 1])


@contextmanager
def one_core() -> Iterator[str]:
    """Keep this thread on one core and OpenCV to one thread; says what could be done."""
    threads, where = cv2.getNumThreads(), "one thread, which this system cannot pin to a core"
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    cv2.setNumThreads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
        where = f"one thread on core {max(cores)}"
    try:
        yield where
    finally:
        cv2.setNumThreads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def passes(
    work: Callable[[], Any], most: int, progress: Progress | None = None
) -> tuple[list[float], list[float], Any]:
    """CPU and wall seconds of each pass, up to `most`, and what the last one returned.

    After two passes and `ENOUGH_S` seconds there are no more.
    """
    cpu_s: list[float] = []
    wall_s: list[float] = []
    result = None
    while len(cpu_s) < most and (len(cpu_s) < 2 or sum(wall_s) < ENOUGH_S):
        if progress is not None:
            progress(f"pass {len(cpu_s) + 1} of at most {most}")
        began_cpu, began = time.process_time(), time.perf_counter()
        result = work()
        wall_s.append(time.perf_counter() - began)
        # The clock of the process counts threads that a library may have started, too.
        cpu_s.append(time.process_time() - began_cpu)
    return cpu_s, wall_s, result
