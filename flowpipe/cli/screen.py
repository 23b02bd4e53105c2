"""Words and tables -> terminal or log: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache

from rich.console import Console
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


def print_table(rows: Iterable[tuple[str, ...]], header: tuple[str, ...] = ()) -> None:
    """Rows of plain text as a table on stdout; the first column is never wrapped."""
    table = Table(*header, show_header=bool(header), box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(Text, row))
    _console(sys.stdout.isatty()).print(table)


def _console(terminal: bool, *, stderr: bool = False) -> Console:
    # A log has no width of its own; rich would wrap it at 80 columns.
    return Console(stderr=stderr, width=None if terminal else WIDTH_OF_LOGS, highlight=False)
