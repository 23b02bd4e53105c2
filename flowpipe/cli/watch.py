"""Steps of a training as they come -> a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flowpipe.cli.screen import say, stderr

LOG_EVERY_S = 120.0


@contextmanager
def watching(what: str) -> Iterator[Callable[[int, int, float], None]]:
    """A function of (steps done, steps in all, snippets per second) that shows them.

    Nothing is shown before its first call.
    """
    console = stderr()
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} steps, {task.fields[rate]}"),
        TimeRemainingColumn(), TextColumn("left"),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = None
        began = logged = 0.0
        first = 0

        def show(done: int, total: int, per_s: float) -> None:
            nonlocal task, began, logged, first
            now = time.monotonic()
            if task is None:
                task = bar.add_task(what, total=total, completed=done, rate="")
                began = logged = now
                first = done
            bar.update(task, completed=done, rate=f"{per_s:.0f} snippets/s")
            if not console.is_terminal and now - logged > LOG_EVERY_S and done > first:
                logged = now
                left_s = (now - began) / (done - first) * (total - done)
                say(f"step {done} of {total}: {per_s:.0f} snippets/s, {left_s / 60:.0f} min left")

        yield show
