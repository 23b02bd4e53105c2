"""Damaged shards -> a repaired store: good videos kept byte for byte, others extracted again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from flowpipe.errors import FormatError, is_storage_failure
from flowpipe.logs import get_logger
from flowpipe.run.claims import claim_store
from flowpipe.run.extraction import run_plan
from flowpipe.run.interrupt import Interruption, signals_interrupt_once
from flowpipe.run.job import ExtractJob
from flowpipe.run.ledger import Quarantine, outcomes_of
from flowpipe.run.planning.plan_run import plan_run
from flowpipe.run.planning.spans import SpanKey, shard_name
from flowpipe.run.progress import Listener, RunProgress
from flowpipe.run.reconciliation.identity import identify, last_index, paths_of
from flowpipe.run.summary import Summary
from flowpipe.store import (
    forget_lost,
    layout,
    lost_shards,
    open_store,
    restore_manifest,
    salvage,
)
from flowpipe.store.manifest import read_manifest
from flowpipe.store.salvage import writer_like
from flowpipe.store.shard import read_shard
from flowpipe.words import count_noun

log = get_logger(__name__)

DAMAGED_FOLDER = "damaged"


def repair(damaged: Iterable[str], job: ExtractJob, listener: Listener | None = None) -> Summary:
    """Replace the damaged shards of a store: keep their good videos and extract the others again.

    Parameters
    ----------
    damaged : iterable of str
        File names of the shards that failed verification. Missing shards need not be named.
    job : ExtractJob
        Job with which the store was made.
    listener : callable, optional
        Function that is called with a `Progress` whenever the state of the run changes.

    Returns
    -------
    Summary
        Totals of the videos that were extracted again.

    Raises
    ------
    UsageError
        If another live run is extracting into the store.
    KeyboardInterrupt
        On Ctrl-C and SIGTERM.

    Notes
    -----
    Damaged files are kept in ``STORE/damaged`` until all their videos are in the store again. If a
    video cannot be extracted again, they stay there.
    """
    with (
        signals_interrupt_once() as interruption,
        claim_store(job.options.store) as folder,
    ):
        return _repair(damaged, job, listener, folder, interruption)


def _repair(
    damaged: Iterable[str],
    job: ExtractJob,
    listener: Listener | None,
    folder: Path,
    interruption: Interruption,
) -> Summary:
    dataset, store = job.dataset, job.options.store
    aside = store / DAMAGED_FOLDER
    broken: set[str] = set()
    index = last_index(store)
    (store / layout.INDEX_FILE).unlink(missing_ok=True)  # derived from the shards
    for name in damaged:
        path = store / "shards" / name
        if not os.path.lexists(path):
            continue
        kept: list[SpanKey] = []
        try:
            kept, lost = _keep_good(path)
            broken.update(video_id for video_id, _, _ in lost)
        except FormatError as error:
            if is_storage_failure(error):
                raise
            broken.update(_listed_in(store, path.stem))  # the shard's own tables are unusable
        log.warning("%s: %s kept", name, count_noun(len(kept), "video"))
        aside.mkdir(exist_ok=True)
        path.replace(aside / name)
    # A shard that was moved aside counts as lost until all its videos are in the store again.
    gone_shards = lost_shards(store)
    opened = open_store(store, skip_broken=True)
    held = {video_id for lost in gone_shards.values() for video_id, _, _ in lost.keys}
    broken.update(held - set(opened.videos))
    broken.update(set(opened.incomplete) - Quarantine(store).video_ids())
    listed = [*dataset.records, *dataset.absent]
    lost_paths = paths_of(store, broken, index)
    known = identify(listed, opened, lost_paths)
    broken -= known.covered
    named = [replace(r, video_id=known.names.get(k, r.video_id)) for k, r in enumerate(listed)]
    wanted = replace(
        dataset, records=[r for r in named if r.path and r.video_id in broken], absent=()
    )
    job = replace(job, dataset=wanted, options=replace(job.options, retry="all"))
    plan = plan_run(job, lost=lost_paths)
    summary = run_plan(plan, RunProgress(plan, listener), folder, interruption)
    gone = broken - {record.video_id for record in wanted.records}
    if gone:
        log.warning("no longer in the data set: %s", ", ".join(sorted(gone)))
        summary.counts["failed"] += len(gone)
    if not summary.failed:
        shutil.rmtree(aside, ignore_errors=True)
    there = known.covered.union(open_store(store, skip_broken=True).videos)
    forget_lost(
        store,
        {name: lost for name, lost in gone_shards.items() if {k[0] for k in lost.keys} <= there},
    )
    restore_manifest(store)
    return summary


def _keep_good(path: Path) -> tuple[list[SpanKey], dict[SpanKey, str]]:
    """Copy the good videos of a shard into a new one. Return kept keys, and errors of lost ones.

    Raises
    ------
    FormatError
        If the tables of the shard are unusable.
    """
    shard = read_shard(path)
    records = read_manifest(path.parent.parent, keys=False).records
    draft = writer_like(shard, path.with_name(f"{shard_name([(path.stem, 0, 1)])}.h5"))
    with draft as writer:
        kept, lost = salvage(
            path, writer, records.get((path.name, shard.attrs[layout.ATTR_SEAL]), {})
        )
        if kept:
            writer.publish()
    return kept, lost


def _listed_in(store: Path, shard: str) -> set[str]:
    """Return ids of the videos that a shard has according to the ledger."""
    return {str(v.get("video_id")) for v in outcomes_of(store) if v.get("shard") == shard}
