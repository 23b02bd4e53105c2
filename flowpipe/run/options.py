"""Options of a run that change no stored byte."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from flowpipe.remote import Cache, default_cache
from flowpipe.video import MAX_DAMAGED

PUBLISH_S = 60.0
"""Default interval at which workers publish; a killed worker loses no more, seconds."""

ON_ERROR = ("skip", "partial", "conceal", "fail")
"""Policies for damaged videos, see `WorkerOptions`."""

STALL_S = 300.0
"""Default time without a finished window after which a worker is killed, seconds."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Options of a run that each of its workers follows."""

    on_error: str = "skip"
    """Policy for damaged videos. ``skip`` keeps nothing; ``partial`` keeps the frames before the
    damage; ``conceal`` keeps those behind it too; ``fail`` keeps nothing and stops the run."""
    max_damaged: float = MAX_DAMAGED
    """Largest share of missing or possibly wrong frames of a video that counts as good."""
    stall_s: float = STALL_S
    """Time without a finished window after which a worker is killed, seconds."""
    publish_s: float = PUBLISH_S
    """Time after which the open shard is published and another is begun, seconds."""
    cache: Cache = field(default_factory=default_cache)
    """Cache of remote videos, on each machine."""

    @property
    def policy(self) -> str:
        """Policy for damage, as text: on_error and, unless it is the default, max_damaged."""
        chosen = f", at most {self.max_damaged:g} damaged"
        return self.on_error + (chosen if self.max_damaged != MAX_DAMAGED else "")


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that change no stored byte."""

    store: Path
    _: KW_ONLY
    workers: int = 1
    """Number of workers; 0 for as many as keep the GPUs busy, see `workers_for_gpus`."""
    scheduler: Any = ""
    """Address, scheduler file or distributed.Client of a running Dask scheduler; empty for a local
    cluster."""
    device: str = "cpu"
    gpus: int = 0
    """Number of GPUs that the local workers share evenly; 0 for none."""
    any_device: bool = False
    """True if the cores may compute instead of the GPUs when they measure faster."""
    part: tuple[int, int] = (1, 1)
    """(i, n): this run extracts the i-th of n shares of the spans, counted from 1."""
    retry: str = ""
    """Reason code of the quarantined videos to retry, ``all``, or empty for none."""
    split_s: float = 300.0
    """Length above which a video is split between workers, seconds; 0 for never."""
    worker: WorkerOptions = field(default_factory=WorkerOptions)
    """Options of each worker."""
