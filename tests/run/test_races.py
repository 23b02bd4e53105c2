"""Array jobs that share a store without knowing of each other begin and end together."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

from array_jobs import JOBS, create_stores, leave_breadcrumbs


def run_together(work: Callable[..., None], folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(JOBS)
    jobs = [context.Process(target=work, args=(folder, barrier, k)) for k in range(JOBS)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(100)
    assert [job.exitcode for job in jobs] == [0] * JOBS


def test_runs_keep_their_own_heartbeats(tmp_path: Path) -> None:
    run_together(leave_breadcrumbs, tmp_path)
    assert not (tmp_path / "running").exists()


def test_jobs_agree_on_one_new_store(tmp_path: Path) -> None:
    run_together(create_stores, tmp_path)
    for store in tmp_path.iterdir():
        assert sorted(p.name for p in store.iterdir()) == ["shards", "store.json"]
