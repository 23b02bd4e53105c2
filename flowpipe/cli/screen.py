"""Words and tables -> terminal or log: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

WIDTH_OF_LOGS = 160


@cache
def stderr() -> Console:
    """Progress, warnings, failures."""
    return _console(sys.stderr.isatty(), stderr=True)


def say(text: str, style: str = "") -> None:
    """A line on stderr, exactly as given."""
    stderr().print(Text(text, style), soft_wrap=True)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function of (done, in all) that shows a bar on stderr, or one line in a log.

    Nothing is shown before its first call.
    """
    console = stderr()
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = None

        def show(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                task = bar.add_task(what, total=total)
                if not console.is_terminal:
                    say(f"{what}: {total}")
            bar.update(task, completed=done)

        yield show


def print_table(rows: Iterable[tuple[str, ...]], header: tuple[str, ...] = ()) -> None:
    """Rows of plain text as a table on stdout; the first column is never wrapped."""
    table = Table(*header, show_header=bool(header), box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(Text, row))
    _console(sys.stdout.isatty()).print(table)


def _console(terminal: bool, *, stderr: bool = False) -> Console:
    # A log has no width of its own; rich would wrap it at 80 columns.
    return Console(stderr=stderr, width=None if terminal else WIDTH_OF_LOGS, highlight=False)
