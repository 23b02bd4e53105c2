"""Options of a run, and the summary of what it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flowpipe.remote import Cache, default_cache
from flowpipe.types import Outcome
from flowpipe.video import MAX_DAMAGED

PUBLISH_S = 60.0
"""A worker that is killed loses this many seconds of finished videos at most, and the open one."""

STALL_S = 300.0
"""A worker is killed after this long without a finished window, seconds."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; nothing here changes a stored byte."""

    store: Path
    workers: int = 1
    """0 for as many as keep the GPUs busy, see `fill_gpus`."""
    scheduler: str = ""
    """Address or scheduler file of a running Dask scheduler; empty for a local cluster."""
    device: str = "cpu"
    gpus: int = 0
    """GPUs that the local workers share evenly; 0 for none."""
    any_device: bool = False
    """True if the cores may compute instead of the GPUs when they measure faster."""
    part: tuple[int, int] = (1, 1)
    """(i, n): this run takes the i-th of n shares of the spans."""
    on_error: str = "skip"
    max_damaged: float = MAX_DAMAGED
    """Share of frames that are missing or may be wrong above which a video counts as damaged."""
    retry: str = ""
    """``all`` or a reason code: quarantined videos to try again."""
    stall_s: float = STALL_S
    publish_s: float = PUBLISH_S
    """A worker publishes what it has finished when this long has passed, seconds."""
    split_s: float = 300.0
    """Videos longer than this are cut in time, so that one video keeps every worker busy."""
    cache: Cache = field(default_factory=default_cache)
    """Copies of remote videos, on each machine."""

    @property
    def policy(self) -> str:
        """Policy for damage, as text: on_error and, unless it is the default, max_damaged."""
        chosen = f", at most {self.max_damaged:g} damaged"
        return self.on_error + (chosen if self.max_damaged != MAX_DAMAGED else "")


@dataclass
class Summary:
    """Totals of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    """Videos by status, and ``already done`` and ``quarantined``. A video that is cut in time is
    counted when its last part is there."""
    reasons: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    stored_bytes: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    """CPU seconds by stage, over all workers."""
    busy_s: Counter[str] = field(default_factory=Counter)
    """Seconds that each stage was at work, over all workers."""
    ledger: Path | None = None
    noted: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Video id and notes of each stored span that has notes."""

    parts: Counter[str] = field(default_factory=Counter)
    """Parts that are still to come of each video that is cut in time, by id."""

    @property
    def failed(self) -> int:
        return self.counts["failed"] + self.counts["quarantined"]

    def add(self, outcome: Outcome) -> None:
        if outcome.parts > 1:
            self.parts[outcome.video_id] -= 1
        if outcome.parts == 1 or self.parts[outcome.video_id] == 0:
            self.counts[outcome.status] += 1
        self.frames += outcome.frames
        self.stored_bytes += outcome.stored_bytes
        self.seconds.update(outcome.seconds)
        self.busy_s.update(outcome.busy_s)
        if outcome.reason:
            self.reasons[outcome.reason] += 1
        if outcome.notes:
            self.noted.append((outcome.video_id, outcome.notes))


class InterruptedRunError(KeyboardInterrupt):
    """A run that a signal stopped; `summary` says what it did until then."""

    def __init__(self, summary: Summary) -> None:
        super().__init__()
        self.summary = summary
