"""Data set + recipe + store -> a finished store: plan, run, report.

The shards on disk are the truth: a run begins by reading what they hold and does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from flowpipe import params
from flowpipe.datasets import Dataset
from flowpipe.errors import (
    DeviceLostError,
    DiskFullError,
    FlowpipeError,
    RemoteError,
    UnwritableError,
)
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.remote import facts_of
from flowpipe.run.claims import claim
from flowpipe.run.interrupt import Interruption, signals_interrupt_once
from flowpipe.run.ledger import Ledger, Quarantine
from flowpipe.run.options import InterruptedRunError, RunOptions, Summary
from flowpipe.run.plan import (
    ABSENT,
    Plan,
    ShardPlan,
    SpanKey,
    in_part,
    make_plan,
    make_spans,
    part_of,
    some_of,
    to_do,
)
from flowpipe.run.progress import RunProgress
from flowpipe.run.reconcile import Changes, Comparison, apply, reconcile
from flowpipe.run.resources import choose_nothing, choose_rates
from flowpipe.run.sample import look_at
from flowpipe.run.seams import torn_ids
from flowpipe.run.supersede import supersede
from flowpipe.run.worker import ShardJob
from flowpipe.store import adopt, create_store, free_bytes, open_store, sweep
from flowpipe.types import Outcome, Span
from flowpipe.words import byte_size


def plan_run(
    dataset: Dataset,
    recipe: ExtractRecipe,
    options: RunOptions,
    lost: Mapping[str, str] | None = None,
) -> Plan:
    """Return what a run would do. Reads the store if there is one; writes nothing.

    Parameters
    ----------
    dataset, recipe, options
        See `run`.
    lost : mapping of str to str, optional
        Videos that are extracted again under their ids, see `flowpipe.run.identity.identify`; by
        default those of shards that are gone.

    Raises
    ------
    FormatError
        If the store was made with another recipe.
    BackendError
        If the device is not usable.
    """
    seen = published(options.store)
    split_s = 0.0 if recipe.whole_video else options.split_s
    compared = Comparison(list(dataset.records), 0, Changes())
    done: set[SpanKey] = set()
    if (options.store / "store.json").exists():
        store = open_store(options.store, skip_broken=True)
        store.check_recipe(params.digest(recipe), params.plain(recipe))
        part = options.part
        mine = None if part[1] == 1 else lambda video_id: in_part(video_id, 0, *part)
        compared = reconcile(dataset, store, mine=mine, retry=options.retry, lost=lost)
        table = store.catalogue.table
        done = {key for video_id in store.incomplete for key in table.keys_of(video_id)}
    changes = compared.changes
    spans, unusable = make_spans(
        compared.todo, split_s=split_s, stream=recipe.video.stream, uncut=changes.again,
        unread=changes.unread,
    )  # fmt: skip
    if options.part != (1, 1):
        chosen = set(map(id, part_of((span for span, _ in spans), *options.part)))
        spans = [(span, size) for span, size in spans if id(span) in chosen]
    quarantined = Quarantine(options.store).held_back(options.retry, options.policy)
    # A video that failed in one piece is not tried in parts.
    quarantined |= {s.key for s, _ in spans if (s.record.video_id, 0, 1) in quarantined}
    paths = [span.record.path for span, _ in to_do(spans, done, quarantined)]
    sample = look_at(paths, recipe.video.fps, recipe.video.stream)
    choice = choose_rates(recipe, sample, options) if paths else choose_nothing(options)
    plan = make_plan(
        spans, unusable, sample, choice.rates, workers=choice.workers, cores=choice.cores,
        done=done, quarantined=quarantined,
    )  # fmt: skip
    return replace(
        plan, done=plan.done + compared.kept, device=choice.device, gpus=choice.gpus,
        filled=choice.words, changes=changes, seen=seen, sample=sample,
        alone=choice.alone,
    )  # fmt: skip


def published(store: Path) -> frozenset[str]:
    """Names of the shards that a store has."""
    return frozenset(path.name for path in (store / "shards").glob("shard-*.h5"))


def run(
    plan: Plan,
    dataset: Dataset,
    source: dict[str, Any],
    recipe: ExtractRecipe,
    options: RunOptions,
    console: Console,
    *,
    quiet: bool = False,
    failures: bool = True,
) -> Summary:
    """Carry out a plan.

    Parameters
    ----------
    plan : Plan
        From `plan_run` with the same arguments.
    source : dict
        How the data set was named on the command line; kept in the store so that a repair can list
        the videos again.
    quiet : bool
        Print failures and no progress.
    failures : bool
        Print failures. A caller that raises them as errors leaves them out.

    Raises
    ------
    DiskFullError
        Before anything is written if the plan cannot fit, or later when the disk fills up.
    UnwritableError
        If the folder cannot be made or written to.
    UsageError
        If another run that is alive extracts the same videos into the store.
    FlowpipeError
        The first failure of a video under ``on_error="fail"``; the video is not quarantined.
    InterruptedRunError
        On Ctrl-C and SIGTERM. Workers had `drive.GRACE_S` to publish the videos that they had
        finished; the same command goes on from there.
    """
    with (
        signals_interrupt_once() as interruption,  # before anything is there to be left behind
        claim(options.store, options.part, say=partial(console.print, highlight=False)) as folder,
    ):
        if published(options.store) != plan.seen:  # another run has made some of it in between
            without_absent = all(o.reason != ABSENT for o in plan.unusable)
            plan = plan_run(dataset, recipe, options)
            plan = plan.without_absent() if without_absent else plan
        progress = RunProgress(plan, console, quiet=quiet, failures=failures)
        return carry_out(plan, dataset, source, recipe, options, progress, folder, interruption)


def carry_out(
    plan: Plan,
    dataset: Dataset,
    source: dict[str, Any],
    recipe: ExtractRecipe,
    options: RunOptions,
    progress: RunProgress,
    folder: Path,
    interruption: Interruption,
) -> Summary:
    """Carry out a plan in a store that this process has claimed.

    Parameters
    ----------
    plan, dataset, source, recipe, options
        See `run`.
    progress : RunProgress
    folder : Path
        From `flowpipe.run.claims.claim`.
    interruption : Interruption
        From `signals_interrupt_once`.
    """
    sweep(options.store)  # what a killed run left behind takes room
    check_space(plan, options.store)
    _create(dataset, source, recipe, options.store)
    opened = open_store(options.store, skip_broken=True)
    before = {(facts.name, facts.seal) for facts in opened.catalogue.shards}
    apply(plan.changes, opened, source)
    adopt(options.store)
    before_run = Counter({"already done": plan.done, "quarantined": plan.quarantined})
    summary = Summary(before_run, parts=plan.split)
    ledger = Ledger(options.store)
    summary.ledger = ledger.path
    try:
        _settle(plan, recipe, options, ledger, summary, progress, folder, interruption)
        for line in _supersede(plan, before, options.store):
            progress.say(line)
    except KeyboardInterrupt:
        raise InterruptedRunError(summary) from None
    finally:
        ledger.close()
        sweep(options.store)
    return summary


def _supersede(plan: Plan, before: Collection[tuple[str, str]], store: Path) -> list[str]:
    """Take older extractions of videos that were extracted again out of the store."""
    changes = plan.changes
    if not changes.again and not changes.stale:
        return []
    sources = dict(changes.stale)
    for video_id, path in changes.replaced.items():
        with suppress(OSError, RemoteError):
            sources[video_id] = facts_of(path)
    return supersede(store, sources, changes.retried | changes.torn, before)


def _create(dataset: Dataset, source: dict[str, Any], recipe: ExtractRecipe, store: Path) -> None:
    """Make the store, or check that the one there may take more of the same."""
    try:
        create_store(
            store,
            recipe=params.canonical(recipe),
            recipe_digest=params.digest(recipe),
            dataset=source,
            # Those of a store that is there were compared when the run was planned.
            class_names=() if (store / "store.json").exists() else dataset.class_names,
        )
    except OSError as error:
        raise UnwritableError(f"no store can be made at {store}: {error}") from error


def _settle(
    plan: Plan,
    recipe: ExtractRecipe,
    options: RunOptions,
    ledger: Ledger,
    summary: Summary,
    progress: RunProgress,
    folder: Path,
    interruption: Interruption,
) -> None:
    """Enter every outcome into the ledger, the summary and, if the video failed, the quarantine.

    A video on which the GPU failed is as good as any other: it is not quarantined.
    """
    quarantine = Quarantine(options.store)
    with (
        progress,
        # Closed here whatever happens: workers must be gone before what they left is swept.
        closing(_work(plan, recipe, options, progress, folder, interruption)) as work,
    ):
        for outcome in chain(plan.unusable, work):
            ledger.write(outcome)
            summary.add(outcome)
            if outcome.status != "failed":
                quarantine.remove(outcome.video_id, outcome.part, outcome.parts)
            elif options.on_error == "fail":
                raise FlowpipeError(outcome.message, reason=outcome.reason)
            elif outcome.reason != DeviceLostError.default_reason:
                quarantine.add(outcome, options.policy)
            progress.outcome(outcome)


def _work(
    plan: Plan,
    recipe: ExtractRecipe,
    options: RunOptions,
    progress: RunProgress,
    folder: Path,
    interruption: Interruption,
) -> Generator[Outcome, None, None]:
    """Outcomes of a plan's shards as workers finish them."""
    if not plan.shards:
        return
    from flowpipe.run.cluster import local_pool, remote_pool  # Dask takes half a second to load
    from flowpipe.run.drive import Driver

    pool_of = (
        remote_pool(options.scheduler)
        if options.scheduler
        else local_pool(_useful_workers(plan), plan.gpus, options.stall_s)
    )
    with pool_of as pool, interruption.deferred():
        store = options.store.resolve()
        job = ShardJob(
            str(store), str(folder.resolve()), plan.shards[0], recipe, plan.device,
            options.on_error, options.stall_s, options.cache, options.publish_s,
            options.max_damaged,
        )  # fmt: skip

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
        yield from drive(whole_again(plan, store, torn))


def _useful_workers(plan: Plan) -> int:
    """Return how many workers can have a shard at once; on each GPU as many."""
    # A video whose parts do not fit together gets a shard of its own: see `whole_again`.
    useful = min(plan.workers, max(1, len(plan.shards), len(plan.split)))
    return -(-useful // plan.gpus) * plan.gpus if plan.gpus else useful


def whole_again(plan: Plan, store: Path, torn: set[str]) -> list[ShardPlan]:
    """Split videos that have to be made in one piece after all, a shard each.

    Those of which a part failed: in one piece the policy for damage decides what is kept. And those
    whose parts do not decode to the same frame on both sides of a cut.
    """
    split = [(span, shard) for shard in plan.shards for span in shard.spans if span.parts > 1]
    if not split:
        return []
    opened = open_store(store, skip_broken=True)
    torn = torn | (torn_ids(opened.catalogue) & {span.record.video_id for span, _ in split})
    first = {span.record.video_id: (span, shard) for span, shard in reversed(split)}
    alone = []
    for video_id, (span, shard) in first.items():
        if video_id in torn:
            part = some_of(shard, (Span(span.record),))
            alone.append(
                replace(part, cost_s=part.cost_s * span.parts, bytes=part.bytes * span.parts)
            )
    return alone


def check_space(plan: Plan, store: Path) -> None:
    """Raise DiskFullError if the plan's bytes do not fit where the store is to be."""
    free = free_bytes(store)
    if plan.bytes > free:
        raise DiskFullError(
            f"about {byte_size(plan.bytes)} needed and only {byte_size(free)} free"
            f" at {store.resolve()}; choose another --out, fewer modalities or a lower quality"
        )
