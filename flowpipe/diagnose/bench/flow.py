"""Algorithms and pairs -> Figures: CPU time per pair, and the difference to a reference.

The time of an algorithm is that of its fastest pass over all pairs, which other load on the machine
disturbs least; the spread between passes shows the disturbance. Both frames of a pair are prepared
for each pair, although extraction prepares each frame of a video once.
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

from flowpipe.diagnose.bench.candidates import PEER, FlowCandidate
from flowpipe.diagnose.bench.pairs import Pairs

Progress = Callable[[str], None]

ENOUGH_S = 20.0
"""Time after which there is no third pass, seconds."""


@dataclass(frozen=True, kw_only=True)
class FlowFigures:
    """Measurements of one row."""

    ms_cpu: float
    """CPU time per pair of all threads in the fastest pass, ms."""
    ms_wall: float
    """Wall time per pair in the fastest pass, ms."""
    clock: str
    """Time that `pairs_per_s` and `ratio` use: ``cpu``, or ``wall`` for a GPU."""
    pairs_per_s: float
    ratio: float | None
    """Speed relative to the reference; None if the reference did not run."""
    passes: int
    spread: float | None
    """(slowest - fastest) / fastest pass; None after a single pass."""
    difference_px: float | None
    """Mean endpoint difference to the flow of the reference, pixels."""


class Meter:
    """Measures algorithms on the same pairs; the reference must be measured first.

    Parameters
    ----------
    pairs : Pairs
        Frame pairs.
    repeat : int
        Maximum number of passes over the pairs; slow algorithms get two.
    reference : str
        Name of the algorithm that others are compared to; empty for none.
    progress : callable, optional
        Called with a line of text when a pass starts.
    """

    def __init__(
        self, pairs: Pairs, repeat: int, reference: str = PEER, progress: Progress | None = None
    ) -> None:
        self.pairs, self.repeat, self.reference = pairs, repeat, reference
        self.progress = progress
        self._reference_ms: float | None = None
        self._reference_flow: NDArray[np.float32] | None = None

    def measure(self, row: FlowCandidate) -> FlowFigures:
        """Solve every pair several times; errors of the backend pass.

        Parameters
        ----------
        row : FlowCandidate
            Algorithm to measure.

        Returns
        -------
        FlowFigures
            Times, and difference to the reference.
        """
        solver = row.solver()

        def solve() -> Any:
            return solver.solve(
                solver.prepare(self.pairs.first[:count]),
                solver.prepare(self.pairs.second[:count]),
            )

        count = 1
        solve()  # memory pages, contexts and imports of the first call
        count = len(self.pairs.first)
        cpu_s, wall_s, flow = time_passes(solve, self.repeat, self.progress)
        costs = cpu_s if row.on_cpu else wall_s
        ms = 1000 * min(costs) / count
        if row.name == self.reference:
            self._reference_ms, self._reference_flow = ms, flow
        return FlowFigures(
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


def find_refusals(rows: Iterable[FlowCandidate]) -> dict[str, str]:
    """Find the algorithms that cannot run here; each is tried on a tiny pair.

    Parameters
    ----------
    rows : iterable of FlowCandidate
        Algorithms.

    Returns
    -------
    dict of str to str
        Reason by name.
    """
    tiny = np.zeros((1, 64, 64), np.uint8)
    reasons = {}
    for row in rows:
        try:
            solver = row.solver()
            solver.solve(solver.prepare(tiny), solver.prepare(tiny))
        except Exception as error:  # other libraries can raise anything; the rest still runs
            reasons[row.name] = str(error) or type(error).__name__
    return reasons


def endpoint_px(flow: NDArray[np.float32], other: Any) -> NDArray[np.float32]:
    """Return the endpoint difference of two flows at each pixel.

    Parameters
    ----------
    flow, other : float32 (N, 2, H, W)
        Flows, pixels.

    Returns
    -------
    float32 (N, H, W)
        Difference, pixels.
    """
    difference = flow - other
    distance: NDArray[np.float32] = np.hypot(difference[:, 0], difference[:, 1])
    return distance


@contextmanager
def use_one_core() -> Iterator[str]:
    """Pin this thread to one core and OpenCV to one thread; yield a description."""
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


def time_passes(
    work: Callable[[], Any], most: int, progress: Progress | None = None
) -> tuple[list[float], list[float], Any]:
    """Run a function several times.

    There are no more passes after two passes and `ENOUGH_S` seconds.

    Parameters
    ----------
    work : callable
        Function to run.
    most : int
        Maximum number of passes.
    progress : callable, optional
        Called with a line of text when a pass starts.

    Returns
    -------
    cpu_s : list of float
        CPU seconds of each pass.
    wall_s : list of float
        Wall seconds of each pass.
    result : object
        Last result.
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
        # The process clock includes threads that a library may have started.
        cpu_s.append(time.process_time() - began_cpu)
    return cpu_s, wall_s, result
