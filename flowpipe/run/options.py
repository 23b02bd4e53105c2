"""Options of a run, and the summary of what it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from flowpipe.remote import Cache, default_cache
from flowpipe.types import Outcome
from flowpipe.video import MAX_DAMAGED

PUBLISH_S = 60.0
"""Default interval at which workers publish; a killed worker loses no more, seconds."""

STALL_S = 300.0
"""Default time without a finished window after which a worker is killed, seconds."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that change no stored byte."""

    store: Path
    _: KW_ONLY
    workers: int = 1
    """Number of workers; 0 for as many as keep the GPUs busy, see `workers_for_gpus`."""
    scheduler: str = ""
    """Address or scheduler file of a running Dask scheduler; empty for a local cluster."""
    device: str = "cpu"
    gpus: int = 0
    """Number of GPUs that the local workers share evenly; 0 for none."""
    any_device: bool = False
    """True if the cores may compute instead of the GPUs when they measure faster."""
    part: tuple[int, int] = (1, 1)
    """(i, n): this run extracts the i-th of n shares of the spans, counted from 1."""
    on_error: str = "skip"
    """Policy for damaged videos, see `flowpipe.run.worker.ShardJob`."""
    max_damaged: float = MAX_DAMAGED
    """Largest share of missing or possibly wrong frames of a video that counts as good."""
    retry: str = ""
    """Reason code of the quarantined videos to retry, ``all``, or empty for none."""
    stall_s: float = STALL_S
    """Time without a finished window after which a worker is killed, seconds."""
    publish_s: float = PUBLISH_S
    """Interval at which a worker publishes finished videos, seconds."""
    split_s: float = 300.0
    """Length above which a video is split between workers, seconds; 0 for never."""
    cache: Cache = field(default_factory=default_cache)
    """Cache of remote videos, on each machine."""

    @property
    def policy(self) -> str:
        """Policy for damage, as text: on_error and, unless it is the default, max_damaged."""
        chosen = f", at most {self.max_damaged:g} damaged"
        return self.on_error + (chosen if self.max_damaged != MAX_DAMAGED else "")


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
    noted: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Video id and notes of each stored span that has notes."""

    parts: Counter[str] = field(default_factory=Counter)
    """Remaining parts of each split video, by id."""

    @property
    def failed(self) -> int:
        """Videos that failed in this run or before."""
        return self.counts["failed"] + self.counts["quarantined"]

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a span."""
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
    """A signal stopped the run; `summary` has its totals until then."""

    def __init__(self, summary: Summary) -> None:
        super().__init__()
        self.summary = summary
