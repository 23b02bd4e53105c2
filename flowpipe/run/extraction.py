"""Plan -> a finished store: claim, work, record, report.

Only the shards on disk say which videos are done: a run reads them first and extracts the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from flowpipe import params
from flowpipe.errors import (
    DeviceLostError,
    DiskFullError,
    FlowpipeError,
    RemoteError,
    UnwritableError,
)
from flowpipe.logs import OUTCOMES, get_logger
from flowpipe.remote import file_facts
from flowpipe.run.claims import claim_store
from flowpipe.run.interrupt import Interruption, signals_interrupt_once
from flowpipe.run.job import ExtractJob
from flowpipe.run.ledger import Ledger, Quarantine
from flowpipe.run.planning.plan import Plan, ShardPlan, select_spans
from flowpipe.run.planning.plan_run import list_published, plan_run
from flowpipe.run.planning.spans import ABSENT
from flowpipe.run.progress import Listener, RunProgress
from flowpipe.run.reconciliation.reconcile import apply
from flowpipe.run.reconciliation.seams import find_mismatched_ids
from flowpipe.run.summary import InterruptedRunError, Summary
from flowpipe.run.supersede import supersede
from flowpipe.run.worker.shard_job import ShardJob
from flowpipe.store import adopt, create_store, free_bytes, open_store, sweep
from flowpipe.types import Outcome, Span
from flowpipe.words import byte_size, count_noun

log = get_logger(__name__)
outcome_log = get_logger(OUTCOMES)


def run(plan: Plan, listener: Listener | None = None) -> Summary:
    """Extract the videos of a plan into a store.

    Parameters
    ----------
    plan : Plan
        Result of `plan_run`.
    listener : callable, optional
        Function that is called with a `Progress` whenever the state of the run changes.

    Returns
    -------
    Summary
        Totals of the run.

    Raises
    ------
    DiskFullError
        If the plan does not fit on the disk, before anything is written; or when the disk is full.
    UnwritableError
        If the folder cannot be made or written to.
    UsageError
        If another live run is extracting the same videos into the store.
    FlowpipeError
        The first failure of a video under ``on_error="fail"``; the video is not quarantined.
    InterruptedRunError
        On Ctrl-C and SIGTERM, after workers had `drive.GRACE_S` to publish finished videos. The
        same command resumes the run.
    """
    options = plan.planned_job.options
    with (
        signals_interrupt_once() as interruption,  # before the run makes its first file
        claim_store(options.store, options.part) as folder,
    ):
        if list_published(options.store) != plan.seen:  # another run has published since planning
            without_absent = all(o.reason != ABSENT for o in plan.unusable)
            plan = plan_run(plan.planned_job)
            plan = plan.without_absent() if without_absent else plan
        return run_plan(plan, RunProgress(plan, listener), folder, interruption)


def run_plan(
    plan: Plan, progress: RunProgress, folder: Path, interruption: Interruption
) -> Summary:
    """Extract the videos of a plan into a store that this process has claimed.

    Parameters
    ----------
    plan : Plan
        Plan with a job.
    progress : RunProgress
        Counts and reports the work.
    folder : Path
        Folder of this run, from `flowpipe.run.claims.claim_store`.
    interruption : Interruption
        Result of `signals_interrupt_once`.

    Returns
    -------
    Summary
        Totals of the run.
    """
    job, store = plan.planned_job, plan.planned_job.options.store
    sweep(store)  # files of killed runs take disk space
    check_space(plan, store)
    log.info(
        "extracting %s in %s into %s on %s", count_noun(plan.videos, "video"),
        count_noun(len(plan.shards), "shard"), store, plan.resources.device,
    )  # fmt: skip
    _create(job)
    opened = open_store(store, skip_broken=True)
    before = {(facts.name, facts.seal) for facts in opened.catalogue.shards}
    apply(plan.changes, opened, job.source)
    adopt(store)
    before_run = Counter({"already done": plan.done, "quarantined": plan.quarantined})
    summary = Summary(counts=before_run, parts=plan.split, store=store)
    ledger = Ledger(store)
    summary.ledger = ledger.path
    try:
        _record_outcomes(plan, ledger, summary, progress, folder=folder, interruption=interruption)
        _supersede(plan, before, store)
    except KeyboardInterrupt:
        raise InterruptedRunError(summary) from None
    finally:
        ledger.close()
        sweep(store)
    return summary


def _supersede(plan: Plan, before: Collection[tuple[str, str]], store: Path) -> None:
    """Remove older extractions of videos that were extracted again."""
    changes = plan.changes
    if not changes.extracted_again and not changes.stale:
        return
    sources = dict(changes.stale)
    for video_id, path in changes.replaced.items():
        with suppress(OSError, RemoteError):
            sources[video_id] = file_facts(path)
    for line in supersede(store, sources, changes.retried | changes.torn, before):
        log.warning("%s", line)


def _create(job: ExtractJob) -> None:
    """Make the store, or check that an existing one accepts this recipe."""
    store = job.options.store
    try:
        create_store(
            store,
            recipe=params.canonical(job.recipe),
            recipe_digest=params.digest(job.recipe),
            dataset=job.source,
            # Class names of an existing store were compared when the run was planned.
            class_names=() if (store / "store.json").exists() else job.dataset.class_names,
        )
    except OSError as error:
        raise UnwritableError(f"{store} cannot be made: {error}") from error


def _record_outcomes(
    plan: Plan,
    ledger: Ledger,
    summary: Summary,
    progress: RunProgress,
    *,
    folder: Path,
    interruption: Interruption,
) -> None:
    """Record every outcome in the ledger, the summary and, for failures, the quarantine.

    A GPU failure says nothing about the video, which is not quarantined.
    """
    options = plan.planned_job.options
    quarantine = Quarantine(options.store)
    # Closed in every case: the workers must have ended before their files are swept.
    with closing(_work(plan, progress, folder, interruption)) as work:
        for outcome in chain(plan.unusable, work):
            ledger.write(outcome)
            summary.add(outcome)
            if outcome.status != "failed":
                quarantine.remove(outcome.video_id, outcome.part, outcome.parts)
            elif options.worker.on_error == "fail":
                raise FlowpipeError(outcome.message, reason=outcome.reason)
            elif outcome.reason != DeviceLostError.default_reason:
                quarantine.add(outcome, options.worker.policy)
            progress.outcome(outcome)
            _log_outcome(outcome)


def _log_outcome(outcome: Outcome) -> None:
    if outcome.status != "done" or outcome.reason:
        outcome_log.warning("%s", outcome)
    else:
        part = f" part {outcome.part + 1} of {outcome.parts}" if outcome.parts > 1 else ""
        outcome_log.info(
            "[done] %s%s: %s in %.1f s by %s",
            outcome.video_id, part, count_noun(outcome.frames, "frame"),
            outcome.seconds.get("wall", 0.0), outcome.worker,
        )  # fmt: skip


def _work(
    plan: Plan, progress: RunProgress, folder: Path, interruption: Interruption
) -> Generator[Outcome, None, None]:
    """Yield outcomes of a plan's shards as workers finish them."""
    if not plan.shards:
        return
    from flowpipe.run.cluster.pool import (  # Dask takes half a second to load
        local_pool,
        remote_pool,
    )
    from flowpipe.run.drive import Driver

    options = plan.planned_job.options
    pool_of = (
        remote_pool(options.scheduler)
        if options.scheduler
        else local_pool(_useful_workers(plan), plan.resources.gpus, options.worker.stall_s)
    )
    with pool_of as pool, interruption.defer():
        store = options.store.resolve()
        job = ShardJob(
            store=str(store),
            heartbeat_folder=str(folder.resolve()),
            shard=plan.shards[0],
            recipe=plan.planned_job.recipe,
            device=plan.resources.device,
            options=options.worker,
        )

        def drive(shards: Sequence[ShardPlan]) -> Iterator[Outcome]:
            yield from Driver(
                pool, job, shards, progress.underway, lambda: interruption.came
            ).outcomes()
            interruption.raise_if_came()

        torn = set()
        for outcome in drive(plan.shards):
            if outcome.status == "failed" and outcome.parts > 1:
                torn.add(outcome.video_id)
            else:
                yield outcome
        yield from drive(plan_torn_videos(plan, store, torn))


def _useful_workers(plan: Plan) -> int:
    """Return how many workers can have a shard at once, rounded up to a multiple of the GPUs."""
    # A video whose parts do not match gets a shard of its own: see `plan_torn_videos`.
    gpus = plan.resources.gpus
    useful = min(plan.resources.workers, max(1, len(plan.shards), len(plan.split)))
    return -(-useful // gpus) * gpus if gpus else useful


def plan_torn_videos(plan: Plan, store: Path, torn: set[str]) -> list[ShardPlan]:
    """Return a shard plan for each split video that has to be extracted in one piece after all.

    A part of such a video failed, so the policy for damage has to judge the whole video; or its
    parts do not decode to the same frame on both sides of a cut.

    Parameters
    ----------
    plan : Plan
        Plan of the run.
    store : Path
        Folder of the store.
    torn : set of str
        Ids of the videos of which a part failed.

    Returns
    -------
    list of ShardPlan
        A shard of one span for each such video.
    """
    split = [(span, shard) for shard in plan.shards for span in shard.spans if span.parts > 1]
    if not split:
        return []
    opened = open_store(store, skip_broken=True)
    torn = torn | (
        find_mismatched_ids(opened.catalogue) & {span.record.video_id for span, _ in split}
    )
    first = {span.record.video_id: (span, shard) for span, shard in reversed(split)}
    alone = []
    for video_id, (span, shard) in first.items():
        if video_id in torn:
            part = select_spans(shard, (Span(span.record),))
            alone.append(
                replace(part, cost_s=part.cost_s * span.parts, bytes=part.bytes * span.parts)
            )
    return alone


def check_space(plan: Plan, store: Path) -> None:
    """Check that a plan fits on the disk of the store.

    Parameters
    ----------
    plan : Plan
        Plan of the run.
    store : Path
        Folder of the store.

    Raises
    ------
    DiskFullError
        If more bytes are planned than are free.
    """
    free = free_bytes(store)
    if plan.bytes > free:
        raise DiskFullError(
            f"the run needs about {byte_size(plan.bytes)} and {byte_size(free)} are free"
            f" at {store.resolve()}; choose another --out, fewer modalities or a lower quality"
        )
