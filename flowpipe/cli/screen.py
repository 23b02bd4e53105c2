"""Text and tables -> terminal or log: results on stdout, everything else on stderr.

Ids, paths and messages may come from untrusted files, and a terminal obeys control characters in
them. All text is therefore printed here, with control characters written as escapes.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TextIO

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from flowpipe.errors import FlowpipeWarning
from flowpipe.logs import COMMAND, get_logger
from flowpipe.words import CONTROLS, duration, escape_control

_log = get_logger(COMMAND)

WIDTH_OF_LOGS = 160
LOG_EVERY_S = 120.0
"""Seconds between lines of progress in a log."""


class HarmlessConsole(Console):
    """A console that prints control characters as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_control(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None:
                segment = Segment(escape_control(segment.text), segment.style)
            yield segment


@cache
def stderr() -> Console:
    """Return the console for progress, warnings and errors."""
    return _console(sys.stderr.isatty(), stderr=True)


def say(text: str, style: str = "") -> None:
    """Print a line of status on stderr, and log it for ``--log-file``."""
    print_status(text, style)
    _log.info("%s", text)


def print_status(text: str, style: str = "") -> None:
    """Print a line of status on stderr; `escape_control` is applied."""
    stderr().print(Text(escape_control(text), style), soft_wrap=True)


def write_line(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a line of a result on stdout, or on stderr; `escape_control` is applied."""
    click.echo(escape_control(text), err=err, nl=nl)


def write_json(values: Any) -> None:
    """Print values on stdout as JSON in one line."""
    write_line(as_json(values))


def as_json(values: Any, indent: int | None = None) -> str:
    """Return values as JSON text with all control characters escaped, DEL and C1 included."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: TextIO | None = None, line: str | None = None,
) -> None:  # fmt: skip
    """Print a Python warning on stderr; replaces `warnings.showwarning`."""
    if issubclass(category, FlowpipeWarning):
        say(f"warning: {message}", "yellow")
    else:
        say(warnings.formatwarning(message, category, filename, lineno, line).rstrip("\n"))


@contextmanager
def count_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that shows a progress bar on stderr.

    If stderr is a log, it prints a line every `LOG_EVERY_S` seconds. It shows nothing before its
    first call.
    """
    console = stderr()
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = None
        first, began, logged = 0, 0.0, 0.0

        def show(done: int, total: int) -> None:
            nonlocal task, first, began, logged
            now = time.monotonic()
            if task is None:
                task = bar.add_task(what, total=total)
                first, began, logged = done, now, now
                if not console.is_terminal:
                    say(f"{what}: {total}")
            bar.update(task, completed=done)
            if not console.is_terminal and now - logged > LOG_EVERY_S and first < done < total:
                logged = now
                left_s = (now - began) / (done - first) * (total - done)
                say(f"{what}: {done} of {total}, {duration(left_s)} left")

        yield show


def print_table(rows: Iterable[tuple[str, ...]], header: tuple[str, ...] = ()) -> None:
    """Print rows of plain text as a table on stdout, without trailing spaces."""
    table = Table(*header, show_header=bool(header), box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(escape_control(cell)) for cell in row))
    console = _console(sys.stdout.isatty())
    with console.capture() as lines:
        console.print(table)
    for line in lines.get().splitlines():
        write_line(line.rstrip())


def _console(terminal: bool, *, stderr: bool = False) -> Console:
    # A log has no width of its own; rich would wrap it at 80 columns.
    width = None if terminal else WIDTH_OF_LOGS
    return HarmlessConsole(stderr=stderr, width=width, highlight=False)
