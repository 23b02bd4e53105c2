"""ShardJob -> shard on disk + Outcomes: the work of a worker process on one task.

The code runs inside a Dask worker but does not use Dask. A job makes one shard, or several if it
takes longer than `ShardJob.publish_s`. A video that fails is rolled back, and the next one starts.
"""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2

from flowpipe.errors import (
    RETRIED,
    BackendError,
    DecodeError,
    DeviceLostError,
    DiskFullError,
    FlowpipeError,
    TooDamagedError,
    UnwritableError,
    read_reason,
)
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import Extraction
from flowpipe.logs import get_logger
from flowpipe.ops import Ops, cached_ops
from flowpipe.run.options import WorkerOptions
from flowpipe.run.planning.plan import ShardPlan
from flowpipe.run.planning.spans import shard_name
from flowpipe.run.worker.heartbeat import WorkerHeartbeat
from flowpipe.run.worker.output import describe_failure, flow_backend, open_writer
from flowpipe.run.worker.source_file import SourceFile, open_source
from flowpipe.run.worker.stopping import is_stop_requested, work_under_way
from flowpipe.run.worker.watchdog import Watchdog
from flowpipe.store import ShardWriter
from flowpipe.types import Outcome, Span
from flowpipe.words import count_noun

log = get_logger(__name__)

PAUSES_S = (1.0, 2.0, 4.0)
"""Pauses before a video is read again after a storage failure, seconds."""
KEEP_WHAT_IS_GOOD = (
    ", or extract the good frames with --on-error partial (up to the damage) or --on-error conceal "
    "(behind it too)"
)
SLOWEST_DISK_BYTES_PER_S = 4e6
"""Slowest writing speed at which publishing a shard does not count as stalled, bytes per second."""


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """Arguments of a worker that makes one shard."""

    store: str
    heartbeat_folder: str
    """Folder of this run's heartbeat files."""
    shard: ShardPlan
    recipe: ExtractRecipe
    device: str
    options: WorkerOptions = field(default_factory=WorkerOptions)

    @property
    def heartbeat(self) -> WorkerHeartbeat:
        """Heartbeat file of this job."""
        return WorkerHeartbeat(Path(self.heartbeat_folder) / f"{self.shard.name}.json")


class _StopAskedError(Exception):
    """The worker was asked to stop: the open video is dropped, finished ones are published."""


class WorkerDiedError(Exception):
    """The job's heartbeat or notes exist already: an earlier worker died during the job."""


def extract_shard(job: ShardJob) -> list[Outcome]:
    """Extract every span of a job into one shard, or a new one every ``publish_s`` seconds.

    Parameters
    ----------
    job : ShardJob
        Spans, recipe and shard.

    Returns
    -------
    list of Outcome
        One outcome per span, in order. Failed spans are in no shard. Spans are left out after the
        first failure with ``on_error="fail"``, and after a request to stop.

    Raises
    ------
    WorkerDiedError
        If a worker has died on this job before; the client decides how to continue.
    DiskFullError, UnwritableError, BackendError
        If a failure would stop the next video too.
    """
    heartbeat = job.heartbeat
    if heartbeat.is_stop_requested:
        return []
    # With other settings than ours, a scheduler gives the job of a lost worker to another one.
    if heartbeat.path.exists() or heartbeat.notes.exists():
        raise WorkerDiedError(job.shard.name)
    with work_under_way():
        return _extract_shard(job, heartbeat)


def _extract_shard(job: ShardJob, heartbeat: WorkerHeartbeat) -> list[Outcome]:
    cv2.setNumThreads(1)
    ops = cached_ops(job.device)
    path = Path(job.store) / "shards" / f"{job.shard.name}.h5"
    try:
        heartbeat.write(None, 0, -1)
        with heartbeat.writable():
            trace = heartbeat.trace.open("w", encoding="utf-8")
        outcomes: list[Outcome] = []
        with trace, Watchdog(job.options.stall_s, trace) as watchdog:
            waiting = deque(enumerate(job.shard.spans))
            while waiting:
                with open_writer(path, job.recipe, ops) as shard:
                    task = _Task(job, ops, shard, watchdog, sum(o.frames for o in outcomes))
                    outcomes += task.fill_shard(waiting)
    finally:
        # Every exception comes here, a death does not: a heartbeat that stays means a death.
        heartbeat.remove()
    return outcomes


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """Result of one pass over a span, appended to the shard."""

    extraction: Extraction
    error: DecodeError | None
    """Error that ended the pass, or that judges the whole video; None if it is good."""
    frames: int
    images: int
    seconds: Counter[str]
    """CPU seconds by stage."""
    busy_s: Counter[str]
    """Busy seconds of each stage."""

    def is_empty(self, recipe: ExtractRecipe) -> bool:
        """Return whether nothing is stored; a silent film may have frames and no image of sound."""
        return not self.images and not (
            self.frames and set(recipe.modalities) == set(recipe.sounds)
        )

    @property
    def status(self) -> str:
        """``partial`` if frames behind the damage are left out, else ``done``."""
        whole = self.error is None or isinstance(self.error, TooDamagedError)
        return "done" if whole else "partial"


class _Task:
    """Extraction of a job's spans, in order, into an open shard."""

    def __init__(
        self, job: ShardJob, ops: Ops, shard: ShardWriter, watchdog: Watchdog, frames: int
    ) -> None:
        self.job, self.ops, self.shard, self.watchdog = job, ops, shard, watchdog
        self.frames = frames
        """Number of frames of the job so far, earlier shards included."""
        self._noted_at = 0.0
        flow = flow_backend(job.recipe, ops)
        self._backend = ops.name if flow in ("", ops.name) else f"{ops.name}, flow: {flow}"

    def fill_shard(self, waiting: deque[tuple[int, Span]]) -> list[Outcome]:
        """Extract spans from the left until none is left or `publish_s` is over; publish them."""
        until = time.monotonic() + self.job.options.publish_s
        outcomes: list[Outcome] = []
        try:
            while waiting:
                outcomes.append(self.extract(*waiting[0]))
                waiting.popleft()
                last = outcomes[-1]
                failed = last.status == "failed" and last.parts == 1
                if failed and self.job.options.on_error == "fail":
                    waiting.clear()  # but not after a part, whose video is retried in one piece
                if time.monotonic() >= until:
                    break
        except _StopAskedError:
            waiting.clear()
        return self._publish(outcomes)

    def _publish(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Publish the shard under a name made of its spans. Return the outcomes with that name."""
        if not self.shard.entries:
            self.job.heartbeat.note(outcomes)
            return outcomes
        name = shard_name(entry.key for entry in self.shard.entries)
        outcomes = [o if o.status == "failed" else replace(o, shard=name) for o in outcomes]
        self.watchdog.beat(self.shard.bytes_written / SLOWEST_DISK_BYTES_PER_S)
        self.job.heartbeat.write(None, self.frames, -1)
        self.job.heartbeat.note(outcomes)
        with describe_failure(self.shard.path):
            self.shard.publish(name)
        log.debug("published %s of %s", name, count_noun(len(self.shard.entries), "video"))
        return outcomes

    def extract(self, position: int, span: Span) -> Outcome:
        """Append a span to the shard, or roll it back; retry after a storage failure."""
        for pause_s in PAUSES_S:
            outcome = self._try(position, span)
            if outcome.reason != "io":
                return outcome
            until = time.monotonic() + pause_s
            while time.monotonic() < until:
                self.watchdog.beat()
                time.sleep(0.2)
        return self._try(position, span)

    def _try(self, position: int, span: Span) -> Outcome:
        began, bytes_before = time.monotonic(), self.shard.bytes_written
        log.debug("begin %s (%s)", span.record.video_id, span.record.path)
        outcome = Outcome(
            span.record.video_id, "failed", path=span.record.path, part=span.part, parts=span.parts,
            backend=self._backend, worker=f"{platform.node()}:{os.getpid()}",
        )  # fmt: skip
        path, beat = span.record.path, self.watchdog.beat
        local = path
        try:
            self.shard.begin(span)
            self._note(position, span, 0, every_s=0)
            cache = self.job.options.cache
            with cache.local(path, beat) as local, open_source(path, local) as source:
                record = replace(span.record, path=local)
                stored = self._store(position, replace(span, record=record))
                meta = _meta(span, source, stored, beat)
            self.shard.commit(meta)
        except DeviceLostError as error:
            # The GPU is unusable for the rest of this process.
            self.watchdog.give_up(error)
        except (DiskFullError, UnwritableError, BackendError):
            raise
        except _StopAskedError:
            self.shard.rollback()
            raise
        except Exception as error:
            self.shard.rollback()
            reason, message = _explain(error)
            message = message.replace(local, path)
            seconds = {"wall": time.monotonic() - began}
            return replace(outcome, reason=reason, message=message, seconds=seconds)
        entry = self.shard.entries[-1]
        self.frames += entry.frames
        return replace(
            outcome,
            status=entry.status,
            reason=meta["reason"],
            message=meta["message"],
            frames=entry.frames,
            images=entry.images,
            stored_bytes=self.shard.bytes_written - bytes_before,
            seconds={**stored.seconds, "wall": time.monotonic() - began},
            busy_s=dict(stored.busy_s),
            notes=tuple(meta["facts"].get("notes", ())),
        )

    def _store(self, position: int, span: Span) -> _Stored:
        """Append a span; the policy for damage decides which of its frames are kept."""
        policy = self.job.options.on_error
        stored = self._append(position, span, stop_at_damage=False)
        seconds, busy_s = stored.seconds, stored.busy_s
        if policy == "partial" and isinstance(stored.error, TooDamagedError) and span.parts == 1:
            self.shard.rollback()
            self.shard.begin(span)
            stored = self._append(position, span, stop_at_damage=True)
            seconds.update(stored.seconds)
            busy_s.update(stored.busy_s)
        error = stored.error
        if span.parts > 1 and stored.extraction.damage:
            # Damaged frames depend on the position at which decoding starts.
            error = error or DecodeError(f"{span.record.path}: part {span.part} is damaged")
        # A part of a split video is useless unless it reaches the next part.
        # Frames before a storage failure are not all frames of the file.
        if error is not None and (
            policy not in ("partial", "conceal")
            or error.reason in RETRIED
            or span.parts > 1
            or stored.is_empty(self.job.recipe)
        ):
            if policy in ("skip", "fail") and error.reason == "corrupt" and stored.images:
                raise type(error)(f"{error}{KEEP_WHAT_IS_GOOD}", reason=error.reason)
            raise error
        if stored.is_empty(self.job.recipe):
            raise DecodeError(
                f"{span.record.path}: {count_noun(stored.frames, 'frame')}, too few for "
                f"{', '.join(self.job.recipe.modalities)}",
                reason="too_short",
            )
        return replace(stored, seconds=seconds, busy_s=busy_s)

    def _append(self, position: int, span: Span, *, stop_at_damage: bool) -> _Stored:
        """Append all windows of a span in one pass."""
        frames, images, damage = 0, 0, None
        write_s = busy_s = 0.0
        extraction = Extraction(
            span, self.job.recipe, self.ops,
            max_damaged=self.job.options.max_damaged, stop_at_damage=stop_at_damage,
        )  # fmt: skip
        try:
            for window in extraction:
                mark, began = time.thread_time(), time.monotonic()
                with describe_failure(self.shard.path):
                    for encoded in window.encoded:
                        self.shard.append(encoded)
                        images += len(encoded.payloads)
                self.shard.append_pts(window.pts_s)
                frames += len(window.pts_s)
                write_s += time.thread_time() - mark
                busy_s += time.monotonic() - began
                self._note(position, span, frames, every_s=0.5)
        except DecodeError as error:
            damage = error
        return _Stored(
            extraction=extraction, error=damage, frames=frames, images=images,
            seconds=Counter({**extraction.seconds, "write": write_s}),
            busy_s=Counter({**extraction.busy_s, "write": busy_s}),
        )  # fmt: skip

    def _note(self, position: int, span: Span, frames: int, every_s: float) -> None:
        """Restart the watchdog and, every `every_s` seconds, write the heartbeat."""
        self.watchdog.beat()
        now = time.monotonic()
        if now - self._noted_at >= every_s:
            if is_stop_requested() or self.job.heartbeat.is_stop_requested:
                raise _StopAskedError
            self.job.heartbeat.write(span, self.frames + frames, position)
            self._noted_at = now


def _meta(
    span: Span, source: SourceFile, stored: _Stored, beat: Callable[[], None]
) -> dict[str, Any]:
    """Return the meta of a video, which the store keeps beside its images."""
    facts = source.facts()
    extraction, error = stored.extraction, stored.error
    return {
        "source": {
            "bytes": facts.bytes,
            "mtime_ns": facts.mtime_ns,
            "sha256": source.sha256(beat) if span.part == 0 else "",
            **({"tag": facts.tag} if facts.tag else {}),
        },
        "facts": asdict(extraction.facts) if extraction.facts else {},
        "damage": [asdict(run) for run in extraction.damage],
        "status": stored.status,
        "reason": error.reason if error else "",
        "message": str(error).replace(source.local, source.path) if error else "",
        "span": {"start_s": span.start_s, "stop_s": span.stop_s},
        "edges": {"first_crc32": extraction.first_crc32, "seam_crc32": extraction.seam_crc32},
    }


def _explain(error: Exception) -> tuple[str, str]:
    """Return the reason code and message of a failure; the traceback if it was unexpected."""
    if isinstance(error, FlowpipeError):
        return error.reason, str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return read_reason(error), f"{error.filename or 'the file'}: {error.strerror}"
    reason = "out_of_memory" if isinstance(error, MemoryError) else "error"
    return reason, traceback.format_exc()
