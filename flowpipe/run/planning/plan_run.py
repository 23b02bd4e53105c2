"""Job + store -> Plan: what is already stored, what to extract, and with which resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flowpipe import params
from flowpipe.logs import get_logger
from flowpipe.run.job import ExtractJob
from flowpipe.run.ledger import Quarantine
from flowpipe.run.planning.plan import Plan, make_plan
from flowpipe.run.planning.resources import choose_nothing, choose_rates
from flowpipe.run.planning.sample import probe_sample
from flowpipe.run.planning.spans import SpanKey, in_part, list_remaining, make_spans, part_of
from flowpipe.run.reconciliation.reconcile import StoreChanges, StoreComparison, reconcile
from flowpipe.store import open_store
from flowpipe.words import byte_size

log = get_logger(__name__)


def plan_run(job: ExtractJob, lost: Mapping[str, str] | None = None) -> Plan:
    """Return what a run would do. Reads the store if there is one; writes nothing.

    Parameters
    ----------
    job : ExtractJob
        Job to plan.
    lost : mapping of str to str, optional
        Last known paths, by id, of videos to extract again, see
        `flowpipe.run.reconciliation.identity.identify`.
        Default: the videos of shards that are gone.

    Returns
    -------
    Plan
        Plan with the job.

    Raises
    ------
    FormatError
        If the store was made with another recipe.
    BackendError
        If the device is not usable.
    """
    dataset, recipe, options = job.dataset, job.recipe, job.options
    seen = list_published(options.store)
    split_s = 0.0 if recipe.needs_whole_video else options.split_s
    compared = StoreComparison(list(dataset.records), 0, StoreChanges())
    done: set[SpanKey] = set()
    if (options.store / "store.json").exists():
        store = open_store(options.store, skip_broken=True)
        store.check_recipe(params.digest(recipe), params.plain(recipe, stored=True))
        part = options.part
        mine = None if part[1] == 1 else lambda video_id: in_part(video_id, 0, *part)
        compared = reconcile(dataset, store, mine=mine, retry=options.retry, lost=lost)
        table = store.catalogue.table
        done = {key for video_id in store.incomplete for key in table.keys_of(video_id)}
    changes = compared.changes
    spans, unusable = make_spans(
        compared.todo, split_s=split_s, stream=recipe.video.stream, uncut=changes.extracted_again,
        unread=changes.unread,
    )  # fmt: skip
    if options.part != (1, 1):
        chosen = set(map(id, part_of((span for span, _ in spans), *options.part)))
        spans = [(span, size) for span, size in spans if id(span) in chosen]
    quarantined = Quarantine(options.store).list_held_back(options.retry, options.worker.policy)
    # A video that failed in one piece is not tried in parts.
    quarantined |= {s.key for s, _ in spans if (s.record.video_id, 0, 1) in quarantined}
    paths = [span.record.path for span, _ in list_remaining(spans, done, quarantined)]
    sample = probe_sample(paths, recipe.video.fps, recipe.video.stream)
    resources = choose_rates(recipe, sample, options) if paths else choose_nothing(options)
    plan = make_plan(
        spans, unusable, sample, resources, done=done, quarantined=quarantined,
    )  # fmt: skip
    log.debug(
        "planned %s: %s, %.3f ms of a core and %s a frame",
        options.store, sample, 1e3 * resources.rates.frame_s,
        byte_size(resources.rates.frame_bytes),
    )  # fmt: skip
    return replace(
        plan, job=job, done=plan.done + compared.kept, changes=changes, seen=seen, sample=sample,
    )  # fmt: skip


def list_published(store: Path) -> frozenset[str]:
    """Return the file names of a store's shards.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    frozenset of str
        Names, without folders.
    """
    return frozenset(path.name for path in (store / "shards").glob("shard-*.h5"))
