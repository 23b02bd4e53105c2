"""VideoRecords + recipe -> shard plans: what is still to do, cut and balanced by estimated cost.

Planning looks at file sizes only, except for a sample that is probed to learn frames per byte and
for videos big enough to be cut in time. So a million videos are planned in seconds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flowpipe.errors import RemoteError, UsageError, read_reason
from flowpipe.remote import facts_of, look_up
from flowpipe.run.reconcile import Changes
from flowpipe.run.sample import Sample
from flowpipe.types import Outcome, Span, VideoRecord
from flowpipe.video import cut_points

SHARD_BYTES = 2 << 30
SHARD_COST_S = 300.0
"""Estimated CPU seconds of a task; its worker publishes more often, see `options.PUBLISH_S`."""
LEAST_SHARD_COST_S = 2.0
"""Worth the fixed cost of a shard, tens of milliseconds, also on a small run."""
LEAST_BYTES_PER_S = 8000
"""No codec in use holds a second of video in less: smaller files need no look at their length."""

ABSENT = "missing"
"""Reason code of a video that has no file."""

SpanKey = tuple[str, int, int]
"""(video_id, part, parts): what identifies a stretch of video in a store."""


@dataclass(frozen=True)
class Rates:
    """Costs of a frame with one recipe on one machine."""

    frame_s: float
    """CPU seconds for all modalities of one frame, everything included but what a GPU computes."""
    frame_bytes: float
    """Stored bytes for all modalities of one frame."""
    gpu_s: float = 0.0
    """Seconds of a GPU for all modalities of one frame."""
    gpu_workers: int = 1
    """Workers that find room in the memory of a GPU, by what one was seen to take; 1 where that
    could not be seen."""
    worker_bytes: int = 0
    """Memory of the host that a worker with a GPU takes; 0 where it was not measured."""
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds of `frame_s` by stage."""

    @property
    def both_s(self) -> float:
        """Seconds that a frame takes where cores and GPU wait for each other."""
        return self.frame_s + self.gpu_s

    def busy_s(self, device: str, *, workers: int, cores: int, gpus: int) -> dict[str, float]:
        """Return how long a frame keeps each part of a machine busy, seconds.

        All workers are taken to have work, so the largest is the time between two frames. A worker
        without a GPU has one core. A worker with a GPU has a thread for each stage.

        Returns
        -------
        dict of str to float
            ``cores``, ``gpus`` and, where stages have threads, ``stage``: the slowest one.
        """
        gpu_s = self.gpu_s / max(1, gpus)
        if device == "cpu":
            return {"cores": self.frame_s / min(workers, cores), "gpus": gpu_s}
        slowest_s = max(self.stages_s.values(), default=self.frame_s)
        return {"cores": self.frame_s / cores, "gpus": gpu_s, "stage": slowest_s / workers}


NOTHING = Rates(1.0, 1.0)
"""Placeholder rates of a run that has no frame to extract."""


@dataclass(frozen=True)
class ShardPlan:
    """Spans that one task turns into one shard."""

    name: str
    spans: tuple[Span, ...]
    cost_s: float
    bytes: float


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, before it does any of it."""

    shards: tuple[ShardPlan, ...]
    """Dearest first, so that no long shard is left for the end."""
    unusable: tuple[Outcome, ...]
    """Videos refused without decoding: missing, empty."""
    done: int
    """Videos that the store holds already."""
    quarantined: int
    """Videos that failed before and are not tried again."""
    frames: float
    cost_s: float
    """Seconds of one core and, where a GPU computes, of one GPU."""
    bytes: float
    rates: Rates
    """Costs of a frame."""
    device: str = "cpu"
    gpus: int = 0
    """GPUs that the workers share; 0 for none, or where the scheduler has them."""
    workers: int = 1
    """Workers that the run starts, or of the scheduler."""
    cores: int = 1
    """Cores that the workers share."""
    filled: str = ""
    """Reason for the device and the number of workers, where they were not asked for, and how
    workers share GPUs."""
    changes: Changes = field(default_factory=Changes)
    """Differences between the store and the data set."""
    sample: Sample | None = None
    """Probed headers from which the estimates follow."""
    seen: frozenset[str] = frozenset()
    """Names of the shards that the store had when the plan was made."""
    alone: Rates | None = None
    """Costs of a frame on the cores alone, where `auto` measured them beside the GPUs."""
    disk_bytes_per_s: float = 0.0
    """Bytes per second that the disk of the store takes; 0 where it was not measured."""

    @property
    def spans(self) -> int:
        return sum(len(shard.spans) for shard in self.shards)

    @property
    def split(self) -> Counter[str]:
        """Parts to extract of each video that is cut in time, by id."""
        return Counter(
            span.record.video_id for shard in self.shards for span in shard.spans if span.parts > 1
        )

    @property
    def videos(self) -> int:
        """Videos to extract, also those of which some parts are done."""
        split = self.split
        return self.spans - split.total() + len(split)

    @property
    def gpu_s(self) -> float:
        """Seconds of one GPU within `cost_s`."""
        return self.frames * self.rates.gpu_s

    @property
    def stages_s(self) -> dict[str, float]:
        """Seconds of one core within `cost_s`, by stage."""
        return {stage: self.frames * s for stage, s in self.rates.stages_s.items()}

    def lasts_s(self, more_cores: int = 0, more_gpus: int = 0) -> dict[str, float]:
        """Return how long each of what the run needs is busy, seconds; the largest is its time.

        Parts of the machine are those of `Rates.busy_s`; ``longest_shard`` is the time of the
        worker that has it, and ``disk``, where it was measured, that of writing. A core that is
        added has a worker of its own.
        """
        busy_s = self.rates.busy_s(
            self.device, workers=self.workers + more_cores, cores=self.cores + more_cores,
            gpus=self.gpus + more_gpus,
        )  # fmt: skip
        alone_s = self.rates.busy_s(self.device, workers=1, cores=self.cores, gpus=1)
        longest = max((shard.cost_s for shard in self.shards), default=0.0) / self.rates.both_s
        lasts_s = {part: self.frames * s for part, s in busy_s.items()}
        if self.disk_bytes_per_s:
            lasts_s["disk"] = self.bytes / self.disk_bytes_per_s
        return {**lasts_s, "longest_shard": longest * max(alone_s.values())}

    def saved_share(self, more_cores: int = 0, more_gpus: int = 0) -> float:
        """Return by which share of its time the run would end sooner with more of them."""
        now = max(self.lasts_s().values())
        then = max(self.lasts_s(more_cores, more_gpus).values())
        return 1 - then / now if now else 0.0

    def without_absent(self) -> Plan:
        """The same where a video that has no file is no failure."""
        return replace(self, unusable=tuple(o for o in self.unusable if o.reason != ABSENT))


def part_of(spans: Iterable[Span], index: int, count: int) -> list[Span]:
    """The spans that array job `index` of `count` (from 1) takes.

    Chosen by a hash of id and part, so that jobs agree without talking to each other and the choice
    does not shift when videos are added or finished.
    """
    if not 1 <= index <= count:
        raise UsageError(f"--part wants i/n with 1 <= i <= n, got {index}/{count}")
    return [span for span in spans if in_part(span.record.video_id, span.part, index, count)]


def in_part(video_id: str, part: int, index: int, count: int) -> bool:
    """Return whether array job `index` of `count` takes a part of a video, see `part_of`."""
    return count == 1 or _hash(f"{video_id}\n{part}") % count == index - 1


def make_spans(
    records: Iterable[VideoRecord],
    *,
    split_s: float,
    stream: int | None = None,
    uncut: Collection[str] = (),
    unread: Mapping[str, OSError] | None = None,
) -> tuple[list[tuple[Span, int]], list[Outcome]]:
    """Records -> (span, its share of the file's bytes) pairs, and outcomes for absent files.

    Parameters
    ----------
    records : iterable of VideoRecord
    split_s : float
        Cut longer videos into parts of about this many seconds; 0 for never.
    stream : int, optional
        Video stream that the recipe asks for; None chooses one.
    uncut : collection of str
        Ids of the videos that are not cut.
    unread : mapping of str to OSError, optional
        Videos that are not tried, by id: the storage failed, see `Changes.unread`.
    """
    spans: list[tuple[Span, int]] = []
    unusable: list[Outcome] = []
    records = list(records)
    look_up(record.path for record in records)
    for record in records:
        try:
            if unread and record.video_id in unread:
                raise unread[record.video_id]
            facts = facts_of(record.path)
        except OSError as error:
            reason = read_reason(error)
            unusable.append(_refused(record, reason, f"{record.path}: {error.strerror}"))
            continue
        except ValueError as error:  # a name with a NUL byte
            unusable.append(_refused(record, ABSENT, f"{record.path!r}: {error}"))
            continue
        except RemoteError as error:
            unusable.append(_refused(record, error.reason, str(error)))
            continue
        size = facts.bytes
        if not facts.regular:
            # A pipe or a device would block its worker for ever.
            unusable.append(_refused(record, "unreadable", f"{record.path} is not a regular file"))
            continue
        if size == 0:
            unusable.append(_refused(record, "empty", f"{record.path} has no bytes"))
            continue
        long = 0 < split_s * LEAST_BYTES_PER_S < size and record.video_id not in uncut
        cuts = _cuts(record.path, split_s, stream) if long else ()
        edges = (None, *cuts, None)
        parts = len(edges) - 1
        for part in range(parts):
            spans.append((Span(record, part, parts, edges[part], edges[part + 1]), size // parts))
    return spans, unusable


def make_plan(
    spans: Sequence[tuple[Span, int]],
    unusable: Sequence[Outcome],
    sample: Sample,
    rates: Rates,
    *,
    workers: int,
    cores: int | None = None,
    done: Collection[SpanKey] = (),
    quarantined: Collection[SpanKey] = (),
) -> Plan:
    """Balance what is neither done nor quarantined into shards.

    Parameters
    ----------
    spans : sequence of (Span, int)
        From `make_spans`, in the order of the data set.
    sample : Sample
        From `flowpipe.run.sample.look_at`.
    rates : Rates
        See `run.rates`.
    workers : int
        Shards are made small enough for every worker to get several.
    cores : int, optional
        Cores that the workers share; default: one for each.
    """
    todo = to_do(spans, done, quarantined)
    rest = {span.record.video_id for span, _ in todo}
    held_back = {s.record.video_id for s, _ in spans if s.key not in done} - rest
    videos = {span.record.video_id for span, _ in spans}
    density = sample.frames_per_byte
    total_cost = sum(b for _, b in todo) * density * rates.both_s
    target_s = min(SHARD_COST_S, max(LEAST_SHARD_COST_S, total_cost / (8 * workers)))
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
        rates=rates,
        workers=workers,
        cores=workers if cores is None else cores,
    )


def to_do(
    spans: Iterable[tuple[Span, int]], done: Collection[SpanKey], quarantined: Collection[SpanKey]
) -> list[tuple[Span, int]]:
    """Return the spans that are neither done nor quarantined."""
    return [(s, b) for s, b in spans if s.key not in done and s.key not in quarantined]


def shard_name(keys: Iterable[SpanKey]) -> str:
    """Name of the shard that holds these spans: a digest of what is in it.

    The same content gets the same name in every run, so a repeated task replaces its own shard, and
    different plans never write to one name.
    """
    text = "\n".join("\t".join(map(str, key)) for key in keys)
    return f"shard-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def some_of(shard: ShardPlan, spans: tuple[Span, ...]) -> ShardPlan:
    """A shard of some of the spans of another, or of as many in their place."""
    share = len(spans) / len(shard.spans)
    name = shard_name(span.key for span in spans)
    return ShardPlan(name, spans, shard.cost_s * share, shard.bytes * share)


def _cuts(path: str, split_s: float, stream: int | None) -> tuple[float, ...]:
    try:
        return cut_points(path, split_s, stream=stream)
    except Exception:  # whatever one file does; its worker will say what is wrong with it
        return ()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _refused(record: VideoRecord, reason: str, message: str) -> Outcome:
    return Outcome(record.video_id, "failed", record.path, reason=reason, message=message)
