"""Spans + costs -> shard plans: the remaining spans, balanced by estimated cost.

Planning reads file sizes only, except that it probes a sample, to learn the frames per byte, and
videos large enough to be split. A million videos are therefore planned in seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from flowpipe.run.job import ExtractJob
from flowpipe.run.planning.costs import Resources
from flowpipe.run.planning.sample import HeaderSample
from flowpipe.run.planning.spans import ABSENT, SpanKey, list_remaining, shard_name
from flowpipe.run.reconciliation.reconcile import StoreChanges
from flowpipe.types import Outcome, Span

SHARD_BYTES = 2 << 30
"""Largest estimated size of a shard plan."""
SHARD_COST_S = 300.0
"""Largest estimated cost of a shard plan; its worker publishes earlier, see `options.PUBLISH_S`."""
LEAST_SHARD_COST_S = 2.0
"""Smallest target cost of a shard plan, so that a shard's fixed tens of milliseconds pay."""


@dataclass(frozen=True)
class ShardPlan:
    """Spans that one task turns into one shard."""

    name: str
    spans: tuple[Span, ...]
    cost_s: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Work of a run, computed before it starts."""

    shards: tuple[ShardPlan, ...]
    """Shards in order of falling cost, so that no long shard starts last."""
    unusable: tuple[Outcome, ...]
    """Outcomes of videos refused without decoding: missing, empty."""
    done: int
    """Number of videos that the store already has."""
    quarantined: int
    """Number of videos that failed before and are not retried."""
    frames: float
    cost_s: float
    """Seconds of one core plus, if a GPU computes, seconds of one GPU."""
    bytes: float
    resources: Resources
    """Device, workers and costs of a frame."""
    changes: StoreChanges = field(default_factory=StoreChanges)
    """Differences between the store and the data set."""
    sample: HeaderSample | None = None
    """Probed headers from which the estimates follow."""
    seen: frozenset[str] = frozenset()
    """Names of the shards that the store had when the plan was made."""
    disk_bytes_per_s: float = 0.0
    """Writing speed of the store's disk, bytes per second; 0 if not measured."""
    job: ExtractJob | None = None
    """Job that was planned; None for a plan of `make_plan` alone, which cannot run."""

    @property
    def planned_job(self) -> ExtractJob:
        """The job; raises ValueError if there is none."""
        if self.job is None:
            raise ValueError("this plan has no job; make one with flowpipe.plan")
        return self.job

    @property
    def spans(self) -> int:
        """Number of spans to extract."""
        return sum(len(shard.spans) for shard in self.shards)

    @property
    def split(self) -> Counter[str]:
        """Number of parts to extract of each split video, by id."""
        return Counter(
            span.record.video_id for shard in self.shards for span in shard.spans if span.parts > 1
        )

    @property
    def videos(self) -> int:
        """Number of videos to extract; a split video with finished parts counts too."""
        split = self.split
        return self.spans - split.total() + len(split)

    @property
    def gpu_s(self) -> float:
        """Seconds of one GPU within `cost_s`."""
        return self.frames * self.resources.rates.gpu_s

    @property
    def stages_s(self) -> dict[str, float]:
        """Seconds of one core within `cost_s`, by stage."""
        return {stage: self.frames * s for stage, s in self.resources.rates.stages_s.items()}

    def duration_s(self, more_cores: int = 0, more_gpus: int = 0) -> dict[str, float]:
        """Return how long the run keeps each resource busy, seconds; the largest is its duration.

        Parameters
        ----------
        more_cores, more_gpus : int
            Cores, each with a worker, and GPUs to add to those of the plan.

        Returns
        -------
        dict of str to float
            Keys of `Rates.busy_s`; ``longest_shard``, the time of its worker; and ``disk``, the
            time of writing, if its speed was measured.
        """
        here = self.resources
        busy_s = here.busy_s(more_cores, more_gpus)
        alone_s = here.rates.busy_s(here.device, workers=1, cores=here.cores, gpus=1)
        longest = max((shard.cost_s for shard in self.shards), default=0.0) / here.rates.both_s
        duration_s = {part: self.frames * s for part, s in busy_s.items()}
        if self.disk_bytes_per_s:
            duration_s["disk"] = self.bytes / self.disk_bytes_per_s
        return {**duration_s, "longest_shard": longest * max(alone_s.values())}

    def time_saved_share(self, more_cores: int = 0, more_gpus: int = 0) -> float:
        """Return the share of the run's duration that more cores or GPUs would save.

        Parameters
        ----------
        more_cores, more_gpus : int
            Cores and GPUs to add, as in `duration_s`.

        Returns
        -------
        float
            0 for no time saved, towards 1 for nearly all.
        """
        now = max(self.duration_s().values())
        then = max(self.duration_s(more_cores, more_gpus).values())
        return 1 - then / now if now else 0.0

    def without_absent(self) -> Plan:
        """Return this plan without the failures of videos that have no file."""
        return replace(self, unusable=tuple(o for o in self.unusable if o.reason != ABSENT))


def make_plan(
    spans: Sequence[tuple[Span, int]],
    unusable: Sequence[Outcome],
    sample: HeaderSample,
    resources: Resources,
    *,
    done: Collection[SpanKey] = (),
    quarantined: Collection[SpanKey] = (),
) -> Plan:
    """Group the spans that are neither done nor quarantined into balanced shards.

    Parameters
    ----------
    spans : sequence of (Span, int)
        From `make_spans`, in the order of the data set.
    unusable : sequence of Outcome
        From `make_spans`.
    sample : HeaderSample
        From `flowpipe.run.planning.sample.probe_sample`.
    resources : Resources
        From `flowpipe.run.planning.resources`. Shards are small enough for each worker to
        get several.
    done, quarantined : collection of (str, int, int)
        Keys of the spans to leave out.

    Returns
    -------
    Plan
        Shards in order of falling cost.
    """
    rates = resources.rates
    todo = list_remaining(spans, done, quarantined)
    rest = {span.record.video_id for span, _ in todo}
    held_back = {s.record.video_id for s, _ in spans if s.key not in done} - rest
    videos = {span.record.video_id for span, _ in spans}
    density = sample.frames_per_byte
    total_cost = sum(b for _, b in todo) * density * rates.both_s
    target_s = min(SHARD_COST_S, max(LEAST_SHARD_COST_S, total_cost / (8 * resources.workers)))
    target_frames = min(target_s / rates.both_s, SHARD_BYTES / rates.frame_bytes)

    shards: list[ShardPlan] = []
    batch: list[Span] = []
    frames = 0.0
    for index, (span, size) in enumerate(todo):
        batch.append(span)
        frames += size * density
        if frames >= target_frames or index == len(todo) - 1:
            shards.append(
                ShardPlan(
                    shard_name(span.key for span in batch), tuple(batch), frames * rates.both_s,
                    frames * rates.frame_bytes,
                )
            )  # fmt: skip
            batch, frames = [], 0.0
    shards.sort(key=lambda shard: (-shard.cost_s, shard.name))
    total_frames = sum(b for _, b in todo) * density
    return Plan(
        shards=tuple(shards),
        unusable=tuple(unusable),
        done=len(videos - rest - held_back),
        quarantined=len(held_back),
        frames=total_frames,
        cost_s=total_frames * rates.both_s,
        bytes=total_frames * rates.frame_bytes,
        resources=resources,
    )


def select_spans(shard: ShardPlan, spans: tuple[Span, ...]) -> ShardPlan:
    """Return a plan of some spans of a shard.

    Parameters
    ----------
    shard : ShardPlan
        Plan of the whole shard.
    spans : tuple of Span
        Spans to keep.

    Returns
    -------
    ShardPlan
        Cost and bytes are scaled by the number of spans.
    """
    share = len(spans) / len(shard.spans)
    name = shard_name(span.key for span in spans)
    return ShardPlan(name, spans, shard.cost_s * share, shard.bytes * share)
