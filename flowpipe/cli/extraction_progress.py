"""Progress of an extraction -> a progress bar on a terminal, or regular lines in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress as bars
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flowpipe.cli.screen import print_status, stderr
from flowpipe.run.progress import Progress
from flowpipe.words import count_noun, duration

LOG_EVERY_S = 30.0
"""Interval of progress lines in a log, seconds."""


class ExtractionDisplay:
    """Shows videos done and failed, frames per second, time left; `extract` calls it.

    Parameters
    ----------
    quiet : bool
        True to print failures only.
    failures : bool
        False to print no failures, for callers that raise them as errors.
    """

    def __init__(self, *, quiet: bool = False, failures: bool = True) -> None:
        self._quiet, self._failures = quiet, failures
        self._logged = time.monotonic()
        console = stderr()
        self._terminal = console.is_terminal
        self._bar = bars.Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not self._terminal,
        )
        self._task: bars.TaskID | None = None

    def __enter__(self) -> ExtractionDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, now: Progress) -> None:
        if self._task is None:
            self._task = self._bar.add_task("extracting", total=1.0, note="")
            self._bar.start()
        outcome = now.outcome
        if outcome and (outcome.status != "done" or outcome.reason):
            if self._failures or outcome.status != "failed":
                print_status(str(outcome))  # the run logs it
        note = f"{now.done}/{count_noun(now.total, 'video')}, {now.frames_per_s:.0f} frames/s"
        if now.failed:
            note += f", {now.failed} failed"
        self._bar.update(self._task, completed=now.share, note=note)
        if self._quiet or self._terminal or time.monotonic() - self._logged <= LOG_EVERY_S:
            return
        self._logged = time.monotonic()
        left = f", {duration(now.eta_s)} left" if now.eta_s is not None else ""
        print_status(f"{now.share:.0%} {note}{left}")
