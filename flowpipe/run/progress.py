"""Frames and outcomes of a run -> Progress, for the caller's function."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowpipe.run.planning.plan import Plan
from flowpipe.types import Outcome, Span


@dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a run at one time.

    Examples
    --------
    >>> def show(now):
    ...     print(f"{now.done} of {now.total} videos, {now.failed} failed")
    >>> summary = flowpipe.extract(job, progress=show)  # doctest: +SKIP
    """

    done: int
    """Number of finished videos, failed ones included."""
    failed: int
    """Number of failed videos; a part of a split video counts as one."""
    total: int
    """Number of videos that the run extracts."""
    frames: int
    """Number of finished frames."""
    frames_per_s: float
    """Frames per second since the run began."""
    share: float
    """Finished share of the estimated frames, 0 to 1."""
    eta_s: float | None
    """Estimated time left, seconds; None before the first frame."""
    outcome: Outcome | None
    """Result of the video, or of the part of a video, that has just finished; None otherwise."""


Listener = Callable[[Progress], object]
"""Function that a run calls with its state."""


class RunProgress:
    """Counts what a run has finished and reports it.

    Parameters
    ----------
    plan : Plan
        Plan of the run. Its estimate of the frames is corrected as videos finish.
    listener : callable, optional
        Function that is called with a `Progress` at the start and whenever the state changes.
    """

    def __init__(self, plan: Plan, listener: Listener | None = None) -> None:
        self._listener = listener
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
        self._underway: set[str] = set()
        """Ids of the videos that are finished in unfinished shards."""
        self._counts: Counter[str] = Counter()
        self._done = 0
        self._finished_frames = 0
        self._frames = 0
        self._began = time.monotonic()
        self._report()

    def outcome(self, outcome: Outcome) -> None:
        """Count a finished span.

        Parameters
        ----------
        outcome : Outcome
            Outcome of the span.
        """
        self._counts[outcome.status] += 1
        self._finished_frames += outcome.frames
        parts = self._parts[outcome.video_id]
        parts.add(outcome.part)
        if outcome.parts == 1 or len(parts) >= self._wanted[outcome.video_id]:
            self._whole.add(outcome.video_id)
            del self._parts[outcome.video_id]
        self._report(outcome)

    def underway(self, frames: int, spans: Sequence[Span]) -> None:
        """Count work that is not published yet.

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
        self._underway = {
            key
            for key, count in wanted.items()
            if parts[key] + len(self._parts.get(key, ())) >= count
        }
        self._report()

    def _report(self, outcome: Outcome | None = None) -> None:
        if self._listener is None:
            return
        finished = sum(self._counts.values())
        elapsed = max(1e-3, time.monotonic() - self._began)
        share = min(self._frames / self._total(finished), 1.0)
        if finished == self._spans:
            share = 1.0
        # A worker that publishes or dies reports no finished videos; the count never falls.
        self._done = max(self._done, len(self._whole | self._underway))
        self._listener(
            Progress(
                done=self._done,
                failed=self._counts["failed"],
                total=self._videos,
                frames=self._frames,
                frames_per_s=self._frames / elapsed,
                share=share,
                eta_s=elapsed / share - elapsed if share else None,
                outcome=outcome,
            )
        )

    def _total(self, finished: int) -> float:
        """Return the total number of frames: known for finished videos, else estimated."""
        rest = 1 - finished / max(1, self._spans)
        return max(1.0, self._finished_frames + rest * self._total_frames, float(self._frames))
