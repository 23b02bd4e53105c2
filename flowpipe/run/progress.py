"""Frames and outcomes of a run -> a progress bar on a terminal, or regular lines in a log."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flowpipe.run.plan import Plan
from flowpipe.types import Outcome, Span
from flowpipe.words import count_noun, duration

LOG_EVERY_S = 30.0
"""Interval of progress lines in a log, seconds."""


class RunProgress:
    """Progress display of a run: videos done and failed, frames per second, time left.

    Parameters
    ----------
    plan : Plan
        Plan of the run. Its estimate of the frames is corrected as videos finish.
    console : rich.console.Console
        Output; if it is no terminal, plain lines are printed every `LOG_EVERY_S` seconds.
    quiet : bool
        True to print failures only.
    failures : bool
        False to print no failures.
    """

    def __init__(
        self, plan: Plan, console: Console, *, quiet: bool = False, failures: bool = True
    ) -> None:
        self._console, self._quiet, self._failures = console, quiet, failures
        self._spans = plan.spans + len(plan.unusable)
        self._total_frames = max(1.0, plan.frames)
        self._videos = len(
            {span.record.video_id for shard in plan.shards for span in shard.spans}
            | {outcome.video_id for outcome in plan.unusable}
        )
        self._wanted = plan.split
        """Number of parts to extract of each split video, by id."""
        self._parts: defaultdict[str, set[int]] = defaultdict(set)
        self._whole: set[str] = set()
        """Ids of the videos of which every part is finished."""
        self._underway = 0
        """Number of videos that are finished in unfinished shards."""
        self._counts: Counter[str] = Counter()
        self._finished_frames = 0
        self._frames = 0
        self._began = self._logged = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("extracting", total=1.0, note="")

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._update()
        self._bar.stop()

    def outcome(self, outcome: Outcome) -> None:
        """Count a finished span, and print a failure above the bar."""
        self._counts[outcome.status] += 1
        self._finished_frames += outcome.frames
        parts = self._parts[outcome.video_id]
        parts.add(outcome.part)
        if outcome.parts == 1 or len(parts) >= self._wanted[outcome.video_id]:
            self._whole.add(outcome.video_id)
            del self._parts[outcome.video_id]
        is_shown = self._failures or outcome.status != "failed"
        if is_shown and (outcome.status != "done" or outcome.reason):
            first_line = outcome.message.strip().splitlines()[-1] if outcome.message else ""
            self._console.print(
                f"[{outcome.status}] {outcome.video_id}: {outcome.reason}: {first_line}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        self._update()

    def say(self, line: str) -> None:
        """Print a line about the store above the bar."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def underway(self, frames: int, spans: Sequence[Span]) -> None:
        """Update the display.

        Parameters
        ----------
        frames : int
            Number of frames finished in this run.
        spans : sequence of Span
            Spans that are finished in unfinished shards.
        """
        self._frames = max(frames, self._frames)
        parts: Counter[str] = Counter()
        wanted = {}
        for span in spans:
            parts[span.record.video_id] += 1
            whole = span.parts == 1
            wanted[span.record.video_id] = 1 if whole else self._wanted[span.record.video_id]
        self._underway = sum(
            parts[key] + len(self._parts.get(key, ())) >= count
            for key, count in wanted.items()
            if key not in self._whole
        )
        self._update()

    def _update(self) -> None:
        finished = sum(self._counts.values())
        elapsed = max(1e-3, time.monotonic() - self._began)
        share = min(self._frames / self._total(finished), 1.0)
        if finished == self._spans:
            share = 1.0
        videos = min(len(self._whole) + self._underway, self._videos)
        note = (
            f"{videos}/{count_noun(self._videos, 'video')}, {self._frames / elapsed:.0f} frames/s"
        )
        if self._counts["failed"]:
            note += f", {self._counts['failed']} failed"
        self._bar.update(self._task, completed=share, note=note)
        if self._quiet or self._console.is_terminal:
            return
        if time.monotonic() - self._logged > LOG_EVERY_S:
            self._logged = time.monotonic()
            if share:
                note += f", {duration(elapsed / share - elapsed)} left"
            self._console.print(f"{share:.0%} {note}", highlight=False)

    def _total(self, finished: int) -> float:
        """Return the total number of frames: known for finished videos, else estimated."""
        rest = 1 - finished / max(1, self._spans)
        return max(1.0, self._finished_frames + rest * self._total_frames, float(self._frames))
