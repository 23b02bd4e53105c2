"""Array jobs that share a store and know nothing of each other: they begin and end together."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowpipe import recipe
from flowpipe.extract_recipe import ExtractRecipe
from flowpipe.run.breadcrumb import crumb_folder
from flowpipe.store import create_store

JOBS, TIMES = 3, 25


def all_at_once(work: Callable[..., None], folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(JOBS)
    jobs = [context.Process(target=work, args=(folder, barrier, k)) for k in range(JOBS)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(100)
    assert [job.exitcode for job in jobs] == [0] * JOBS


def _run(folder: Path, barrier: Any, number: int) -> None:
    barrier.wait(60)
    for _ in range(TIMES):
        # Other hosts: their process ids say nothing here, so nobody may sweep them away.
        with crumb_folder(folder, f"20260101T000000-host-{number}-1") as own:
            (own / "crumb.json").write_text("{}")


def test_runs_keep_their_own_breadcrumbs(tmp_path: Path) -> None:
    all_at_once(_run, tmp_path)
    assert not (tmp_path / "running").exists()


def _create(folder: Path, barrier: Any, number: int) -> None:
    made = ExtractRecipe()
    for attempt in range(TIMES):
        barrier.wait(60)
        create_store(
            folder / str(attempt), recipe=recipe.canonical(made),
            recipe_digest=recipe.digest(made), dataset={"root": "/"}, class_names=("a", "b"),
        )  # fmt: skip


def test_jobs_agree_on_one_new_store(tmp_path: Path) -> None:
    all_at_once(_create, tmp_path)
    for store in tmp_path.iterdir():
        assert sorted(p.name for p in store.iterdir()) == ["shards", "store.json"]
