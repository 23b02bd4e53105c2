"""Shard plans -> outcomes: submits jobs to the workers and finds the cause when a worker dies.

A worker that dies loses its open shard; shards that it has published stay. Its heartbeat names the
video it was processing. That video is retried once, alone; the others continue in a shard without
it. A video on which workers die twice is quarantined with the traceback of the last one.

A worker that left no traceback was killed from outside: by the system when memory was short, by an
administrator or by a batch system. The next run retries its video. A GPU failure is not the video's
fault either: the video is not quarantined, and a GPU that keeps failing ends the run. If a worker
dies while it processes no video, its shard is retried in halves.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flowpipe.atomic import FREE_SOME
from flowpipe.errors import RETRIED, BackendError, DeviceLostError, DiskFullError
from flowpipe.logs import get_logger
from flowpipe.run.cluster.pool import Pool, WorkerLostError
from flowpipe.run.planning.plan import ShardPlan, select_spans
from flowpipe.run.worker.heartbeat import STOP
from flowpipe.run.worker.shard_job import ShardJob, WorkerDiedError, extract_shard
from flowpipe.store import free_bytes
from flowpipe.store.layout import SHARDS_FOLDER
from flowpipe.types import Outcome, Span
from flowpipe.words import byte_size

log = get_logger(__name__)

DEATHS_ALLOWED = 2
"""Worker deaths on one video, in its shard and then alone, after which it is quarantined."""
GRACE_S = 20.0
"""Time that workers have to publish finished videos when a run is stopped, seconds."""
COPIES = 2
"""Largest number of copies of a shard's payloads on the disk, while it is published."""
DEATHS_BEFORE_WORK_ALLOWED = 8
"""Consecutive deaths between videos, with no shard finished, after which the run ends."""
GPU_FAILURES_ALLOWED = 2 * DEATHS_ALLOWED - 1
"""Consecutive GPU failures, with no shard finished, after which the run ends: two videos' worth."""


class Driver:
    """Runs shard jobs on a pool.

    Parameters
    ----------
    pool : Pool
        Workers of the run.
    job : ShardJob
        Template of all jobs, which differ in their shard plan only.
    shards : sequence of ShardPlan
        Shards to extract.
    tick : callable
        Called several times a second, for progress, with the number of frames finished so far and
        the spans finished in unfinished shards.
    stop_asked : callable
        Returns whether to stop the run. No shard is begun after that, and workers have `GRACE_S`
        to publish finished videos.
    """

    def __init__(
        self,
        pool: Pool,
        job: ShardJob,
        shards: Sequence[ShardPlan],
        tick: Callable[[int, Sequence[Span]], None],
        stop_asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pool, self._job, self._tick = pool, job, tick
        self._stop_asked, self._stop_by = stop_asked, math.inf
        self._waiting = deque(shards)
        self._deaths: Counter[str] = Counter()
        self._deaths_before_work = 0
        self._gpu_failures = 0
        self._frames = 0

    def outcomes(self) -> Iterator[Outcome]:
        """Yield an outcome per span as shards finish.

        Raises
        ------
        FlowpipeError
            If a failure would stop every further video too, such as a full disk or a missing
            backend. Finished shards stay.
        """
        while self._waiting or self._pool.running:
            if self._stop_asked() and self._stop():
                for job in self._pool.running:
                    yield from self._take_notes(job)
                return
            while (
                self._waiting and len(self._pool.running) < 2 * self._pool.size and self._has_room()
            ):
                shard = self._waiting.popleft()
                self._pool.submit(extract_shard, replace(self._job, shard=shard))
            finished = self._pool.next_finished(timeout_s=0.25)
            if finished is not None:
                job, outcomes, error = finished
                if error is None:
                    job.heartbeat.notes.unlink(missing_ok=True)
                    self._frames += sum(outcome.frames for outcome in outcomes)
                    self._deaths_before_work = self._gpu_failures = 0
                    yield from outcomes
                elif isinstance(error, (WorkerDiedError, WorkerLostError)):
                    yield from self._after_death(job)
                elif isinstance(error, ImportError):
                    raise BackendError(f"a worker cannot load flowpipe: {error}") from error
                else:
                    yield from self._take_notes(job)
                    raise error
            frames, spans = self._underway()
            self._tick(self._frames + frames, spans)

    def _stop(self) -> bool:
        """Ask the workers to publish finished videos. Return whether their time is over."""
        self._waiting.clear()
        if self._stop_by == math.inf:
            log.info("stopping; workers have %.0f s to publish finished videos", GRACE_S)
            self._stop_by = time.monotonic() + GRACE_S
            (Path(self._job.heartbeat_folder) / STOP).touch()
        return time.monotonic() > self._stop_by

    def _take_notes(self, job: ShardJob) -> list[Outcome]:
        """Return outcomes of the shards that a job has published although it did not return."""
        outcomes = job.heartbeat.list_published(Path(job.store) / SHARDS_FOLDER)
        job.heartbeat.notes.unlink(missing_ok=True)
        self._frames += sum(outcome.frames for outcome in outcomes)
        return outcomes

    def _after_death(self, job: ShardJob) -> Iterator[Outcome]:
        settled = self._take_notes(job)
        log.info("the worker of %s has died", job.shard.name)
        yield from settled
        keys = {(o.video_id, o.part, o.parts) for o in settled}
        heartbeat = job.heartbeat
        values = heartbeat.read()
        words = heartbeat.last_traceback()
        heartbeat.remove()
        self._count_gpu_failure(words, settled)
        shard = job.shard
        left = tuple(span for span in shard.spans if span.key not in keys)
        position = values.get("position") if values else -1
        if isinstance(position, int) and 0 <= position < len(shard.spans):
            self._deaths_before_work = 0
            suspect = shard.spans[position]
            rest = tuple(span for span in left if span is not suspect)
        elif settled:  # it died, or was asked to end, between two shards
            self._deaths_before_work = 0
            if left:
                self._waiting.append(select_spans(shard, left))
            return
        else:
            self._count_death_before_work(words)
            if values is None:  # its worker died before it began
                self._waiting.append(shard)
                return
            if len(shard.spans) > 1:
                half = len(shard.spans) // 2
                self._waiting.append(select_spans(shard, shard.spans[:half]))
                self._waiting.append(select_spans(shard, shard.spans[half:]))
                return
            suspect, rest = shard.spans[0], ()
        if rest:
            self._waiting.append(select_spans(shard, rest))
        alone = select_spans(shard, (suspect,))
        self._deaths[alone.name] += 1
        if self._deaths[alone.name] < DEATHS_ALLOWED:
            self._waiting.append(alone)
        else:
            yield _killed_outcome(suspect, words)

    def _count_death_before_work(self, words: str) -> None:
        self._deaths_before_work += 1
        if self._deaths_before_work > DEATHS_BEFORE_WORK_ALLOWED:
            raise BackendError(
                f"{self._deaths_before_work} workers in a row died while they processed no video; "
                f"out of memory? last worker's traceback: {words or 'none'}"
            )

    def _count_gpu_failure(self, words: str, settled: Sequence[Outcome]) -> None:
        if _reason(words) != DeviceLostError.default_reason:
            return
        self._gpu_failures = 1 if settled else self._gpu_failures + 1
        if self._gpu_failures > GPU_FAILURES_ALLOWED:
            raise BackendError(
                f"GPUs failed {self._gpu_failures} times in a row with no shard finished in "
                f"between; finished shards stay; last failure: {words.splitlines()[0]}"
            )

    def _underway(self) -> tuple[int, list[Span]]:
        """Return the number of frames and the spans that are finished in unfinished shards."""
        frames, spans = 0, []
        for job in self._pool.running:
            values = job.heartbeat.read() or {}
            count, position = values.get("frames"), values.get("position")
            frames += count if isinstance(count, int) else 0
            if isinstance(position, int) and position > 0:
                spans += job.shard.spans[:position]
        return frames, spans

    def _has_room(self) -> bool:
        """Return whether the next shard fits on the disk beside the running ones.

        Raises
        ------
        DiskFullError
            If it does not fit although no shard is running.
        """
        running: list[ShardJob] = self._pool.running
        shards = [job.shard for job in running] + [self._waiting[0]]
        needed = COPIES * sum(shard.bytes for shard in shards)
        free = free_bytes(Path(self._job.store))
        if free < needed and not running:
            raise DiskFullError(
                f"the next shard needs {byte_size(needed)} while it is written, and "
                f"{byte_size(free)} are free at {self._job.store}; {FREE_SOME}"
            )
        return free >= needed


_DEATHS = {"stalled": "stalled and was killed", "crashed": "died"}


def _reason(words: str) -> str:
    """Return the reason code at the start of a trace, as `Watchdog.give_up` writes it."""
    return words.partition(":")[0]


def _killed_outcome(span: Span, words: str) -> Outcome:
    if words:
        reason = _reason(words)
        if reason not in RETRIED:
            # faulthandler begins with Timeout when its timer runs out.
            reason = "stalled" if words.startswith("Timeout") else "crashed"
        what = _DEATHS.get(reason, "gave up")
        told = f"the worker {what} on this video twice; its traceback:\n{words}"
    else:
        reason = "killed"
        told = (
            "the worker was killed from outside on this video twice and left no traceback: by the "
            "system because memory was short, by a batch system or by hand; the next run tries it "
            "again"
        )
    return Outcome(
        span.record.video_id, "failed", path=span.record.path, part=span.part, parts=span.parts,
        reason=reason, message=f"{span.record.path}: {told}",
    )  # fmt: skip
