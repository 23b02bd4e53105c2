"""Outcomes of a run -> its totals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flowpipe.run.planning.missing import MissingVideos
from flowpipe.types import Outcome


@dataclass(kw_only=True)
class Summary:
    """Totals of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    """Videos by status, and ``already done`` and ``quarantined``. A split video counts when its
    last part has ended."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Spans by reason code."""
    frames: int = 0
    stored_bytes: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    """CPU seconds by stage, over all workers."""
    busy_s: Counter[str] = field(default_factory=Counter)
    """Busy seconds of each stage, over all workers."""
    ledger: Path | None = None
    """Ledger file of the run."""
    store: Path | None = None
    """Folder of the store."""
    failures: list[Outcome] = field(default_factory=list)
    """Outcomes of the videos that failed in this run, with reasons and messages."""
    missing: MissingVideos | None = None
    """Videos without a file, unlisted and unreadable ones; None for a repair."""
    noted: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Video id and notes of each stored span that has notes."""

    parts: Counter[str] = field(default_factory=Counter)
    """Remaining parts of each split video, by id."""

    @property
    def failed(self) -> int:
        """Videos that failed in this run or before."""
        return self.counts["failed"] + self.counts["quarantined"]

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a span.

        Parameters
        ----------
        outcome : Outcome
            Outcome of a finished span.
        """
        if outcome.parts > 1:
            self.parts[outcome.video_id] -= 1
        if outcome.parts == 1 or self.parts[outcome.video_id] == 0:
            self.counts[outcome.status] += 1
        self.frames += outcome.frames
        self.stored_bytes += outcome.stored_bytes
        self.seconds.update(outcome.seconds)
        self.busy_s.update(outcome.busy_s)
        if outcome.status == "failed":
            self.failures.append(outcome)
        if outcome.reason:
            self.reasons[outcome.reason] += 1
        if outcome.notes:
            self.noted.append((outcome.video_id, outcome.notes))


class InterruptedRunError(KeyboardInterrupt):
    """A signal stopped the run.

    Parameters
    ----------
    summary : Summary
        Totals of the run until then.
    """

    def __init__(self, summary: Summary) -> None:
        super().__init__()
        self.summary = summary
