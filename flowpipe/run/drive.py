"""Shard plans -> outcomes: keeps the workers fed and decides who is to blame when one dies.

A worker that dies takes its shard with it. The breadcrumb tells which video it was on: that video
is tried once more alone, the others go on in a shard without it. A video that kills twice is
quarantined with the last words of its worker.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flowpipe.errors import DiskFullError, FlowpipeError
from flowpipe.run.cluster import Pool
from flowpipe.run.plan import ShardPlan, shard_name
from flowpipe.run.worker import ShardJob, WorkerDiedError, extract_shard
from flowpipe.types import Outcome, Span

DEATHS_ALLOWED = 2
"""Deaths with a video (once in a shard, once alone) after which it is quarantined."""
SPARE_BYTES = 256 << 20
"""Free space below which no further shard is started."""


class Driver:
    """Runs shard jobs on a pool.

    Parameters
    ----------
    pool : Pool
    job : ShardJob
        A template: every job is this one with another shard plan.
    shards : sequence of ShardPlan
    tick : callable
        Called several times a second with the frames finished so far, for progress.
    """

    def __init__(
        self,
        pool: Pool,
        job: ShardJob,
        shards: Sequence[ShardPlan],
        tick: Callable[[int], None],
    ) -> None:
        self._pool, self._job, self._tick = pool, job, tick
        self._waiting = deque(shards)
        self._deaths: Counter[str] = Counter()
        self._frames = 0

    def outcomes(self) -> Iterator[Outcome]:
        """Yield an outcome per span as shards finish.

        Raises
        ------
        FlowpipeError
            What would stop every further video too: a full disk, a missing backend, or the first
            failure under ``on_error="fail"``. Finished shards stay.
        """
        while self._waiting or self._pool.running:
            while self._waiting and len(self._pool.running) < 2 * self._pool.size:
                self._check_space()
                shard = self._waiting.popleft()
                self._pool.submit(extract_shard, replace(self._job, shard=shard))
            finished = self._pool.next_finished(timeout_s=0.25)
            if finished is not None:
                job, outcomes, error = finished
                if error is None:
                    self._frames += sum(outcome.frames for outcome in outcomes)
                    yield from outcomes
                elif isinstance(error, FlowpipeError):
                    raise error
                elif isinstance(error, WorkerDiedError) or _is_death(error):
                    yield from self._after_death(job)
                else:
                    raise error
            self._tick(self._frames + self._frames_underway())

    def _after_death(self, job: ShardJob) -> Iterator[Outcome]:
        crumb = job.breadcrumb
        values = crumb.read() or {}
        words = crumb.last_words()
        crumb.remove()
        position = values.get("position", -1)
        spans = job.shard.spans
        if not isinstance(position, int) or position < 0:
            # It died before its first video: nobody to blame but, in the end, the whole shard.
            suspects = spans
        else:
            suspects = spans[position : position + 1]
        rest = tuple(span for span in spans if span not in suspects)
        if rest:
            share = len(rest) / len(spans)
            self._waiting.append(
                ShardPlan(
                    shard_name(span.key for span in rest),
                    rest,
                    job.shard.cost_s * share,
                    job.shard.bytes * share,
                )
            )
        for suspect in suspects:
            alone = solo(suspect, job.shard)
            self._deaths[alone.name] += 1
            if self._deaths[alone.name] < DEATHS_ALLOWED:
                self._waiting.append(alone)
            else:
                yield _killed(suspect, words)

    def _frames_underway(self) -> int:
        crumbs = (job.breadcrumb.read() for job in self._pool.running)
        return sum(frames for c in crumbs if c and isinstance(frames := c["frames"], int))

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._job.store).free
        if free < SPARE_BYTES:
            raise DiskFullError(
                f"only {free >> 20} MB are free at {Path(self._job.store).resolve()}; finished "
                "shards are kept, free some space and run the same command again"
            )


def solo(span: Span, origin: ShardPlan) -> ShardPlan:
    """A shard of one span, for a suspect to be tried alone."""
    share = len(origin.spans)
    return ShardPlan(shard_name([span.key]), (span,), origin.cost_s / share, origin.bytes / share)


def _killed(span: Span, words: str) -> Outcome:
    stalled = words.startswith("Timeout")  # as faulthandler begins when its timer runs out
    what = "stalled and was killed" if stalled else "died without a Python error"
    return Outcome(
        span.record.video_id, "failed", span.record.path, span.part, span.parts,
        reason="stalled" if stalled else "crashed",
        message=f"{span.record.path}: the worker {what} on this video twice"
        + (f"; its last words:\n{words}" if words else ", leaving no trace (killed from outside?)"),
    )  # fmt: skip


def _is_death(error: BaseException) -> bool:
    # distributed raises KilledWorker; by name, as only cluster.py knows distributed.
    return type(error).__name__ in ("KilledWorker", "CommClosedError", "FutureCancelledError")
