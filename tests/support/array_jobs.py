"""Array jobs that share a store, as functions that spawned processes can import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowpipe import params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run.worker.heartbeat import heartbeat_folder
from flowpipe.store import create_store

JOBS, TIMES = 3, 25


def leave_breadcrumbs(folder: Path, barrier: Any, number: int) -> None:
    barrier.wait(60)
    for _ in range(TIMES):
        with heartbeat_folder(folder) as own:
            (own / "heartbeat.json").write_text("{}")


def create_stores(folder: Path, barrier: Any, number: int) -> None:
    made = ExtractRecipe()
    for attempt in range(TIMES):
        barrier.wait(60)
        create_store(
            folder / str(attempt), recipe=params.canonical(made),
            recipe_digest=params.digest(made), dataset={"root": "/"}, class_names=("a", "b"),
        )  # fmt: skip
