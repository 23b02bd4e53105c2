"""Training steps -> a progress bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flowpipe.cli.screen import stderr


@contextmanager
def show_progress(what: str) -> Iterator[Callable[[int, int, float], None]]:
    """Yield a function of (steps done, total steps, snippets per second) that updates a bar.

    It shows nothing before its first call.
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

        def show(done: int, total: int, per_s: float) -> None:
            nonlocal task
            if task is None:
                task = bar.add_task(what, total=total, completed=done, rate="")
            bar.update(task, completed=done, rate=f"{per_s:.0f} snippets/s")

        yield show
