"""Runs that claim one store, as functions that spawned processes can import."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flowpipe.errors import UsageError
from flowpipe.run.claims import claim_store


def claim_at_once(folder: Path, rounds: int, barrier: Any, answers: Any) -> None:
    """Claim a store in each round; answer whether the claim was granted."""
    for number in range(rounds):
        barrier.wait(60)
        try:
            with claim_store(folder / str(number)):
                answers.put((number, True))
                barrier.wait(60)  # the claim lasts until everybody has an answer
        except UsageError:
            answers.put((number, False))
            barrier.wait(60)


def hold(folder: Path, part: tuple[int, int], held: Any) -> None:
    """Claim a store and keep it until the process is killed."""
    with claim_store(folder, part):
        held.set()
        time.sleep(600)
