"""Jobs -> their results as they end, computed in processes, or here with one worker."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")


def run_jobs(function: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[R]:
    """Run a function on each job in a process pool.

    With one worker or one job it runs in this process.

    Parameters
    ----------
    function : callable
        Function of a job.
    jobs : sequence
        Jobs.
    workers : int
        Number of processes.

    Yields
    ------
    R
        Result of a job, in the order they end.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
