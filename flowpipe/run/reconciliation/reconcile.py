"""Data set + store -> differences: changed labels and bytes, moved files, missing sources.

Columns of the catalogue are compared with the files and records of all videos at once. The meta of
a video is read only if they differ.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets import Dataset
from flowpipe.errors import RecipeError
from flowpipe.remote import FileFacts, stat_urls
from flowpipe.run.reconciliation.identity import identify, lost_videos
from flowpipe.run.reconciliation.seams import find_mismatched_rows
from flowpipe.run.reconciliation.sources import (
    COMPARED,
    facts_if_there,
    has_stored_bytes,
    is_of,
    read_remembered,
    stat_all,
    write_remembered,
)
from flowpipe.store import Store
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.manifest import log_class_names, log_dataset, log_records
from flowpipe.store.rows import head_of, record_digests, record_in
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun

RECORD_FIELDS = ("labels", "subset", "splits", "segments", "ambiguous", "path")


@dataclass(frozen=True, kw_only=True)
class StoreChanges:
    """Differences between a store and the data set with its files."""

    updates: Mapping[str, VideoRecord] = field(default_factory=dict)
    """Records that replace the stored ones without decoding, by id."""
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Number of videos by changed field of their record, such as ``labels``."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Present paths, by id, of videos whose source has other bytes than were extracted."""
    stale: Mapping[str, FileFacts] = field(default_factory=dict)
    """Facts of the present source, by id, of videos with an older extraction in the store too."""
    torn: frozenset[str] = frozenset()
    """Ids of split videos whose parts do not match; they are extracted again in one piece."""
    retried: frozenset[str] = frozenset()
    """Ids of partial videos that are extracted again because ``--retry`` names their reason."""
    gone: frozenset[str] = frozenset()
    """Ids of stored videos whose source is gone or cannot be reached."""
    unread: Mapping[str, OSError] = field(default_factory=dict)
    """Storage failures of files that had to be hashed, by id. The next run compares these videos
    again."""
    left_alone: int = 0
    """Number of stored videos that the data set does not list."""
    class_names: tuple[str, ...] = ()
    """New list of class names, if it has grown."""
    hashed: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    """Size, modification time and SHA-256, by id, of touched files that have the stored bytes."""

    @property
    def extracted_again(self) -> frozenset[str]:
        """Ids of complete videos that are extracted again, each in one piece."""
        return self.retried | self.torn | self.replaced.keys()

    def lines(self) -> list[str]:
        """Return a sentence for each kind of difference."""
        lines = [
            f"{count} done before have {'another' if kind in ('subset', 'path') else 'other'} "
            f"{kind} now: the store is updated without decoding"
            for kind, count in self.kinds.items()
        ]
        if self.class_names:
            lines.append(
                f"the list of classes has grown to {count_noun(len(self.class_names), 'name')}"
            )
        if self.replaced:
            lines.append(
                f"{len(self.replaced)} done before have other bytes now: they are extracted again"
            )
        if self.retried:
            lines.append(f"{len(self.retried)} stored in part are retried; if they fail they stay")
        if self.torn:
            lines.append(
                f"{len(self.torn)} stored in parts that do not fit together: they are extracted "
                "again in one piece"
            )
        if self.gone:
            lines.append(
                f"{len(self.gone)} done before have no source that can be reached; they stay"
            )
        if self.left_alone:
            lines.append(
                f"{count_noun(self.left_alone, 'video')} of the store not listed here; no change"
            )
        return lines


@dataclass(frozen=True)
class StoreComparison:
    """Result of comparing a data set with a store."""

    todo: list[VideoRecord]
    """Videos that are incomplete, extracted again or unread, with their ids in the store."""
    kept: int
    """Number of complete videos of this run's share that are not in `todo`."""
    changes: StoreChanges
    """Differences between both."""


def reconcile(
    dataset: Dataset,
    store: Store,
    *,
    mine: Callable[[str], bool] | None = None,
    retry: str = "",
    lost: Mapping[str, str] | None = None,
) -> StoreComparison:
    """Compare the records of a data set and their files with what a store holds.

    Parameters
    ----------
    dataset : Dataset
        Videos of the data set.
    store : Store
        Open store.
    mine : callable, optional
        Function of an id that returns whether the video is in this run's share; other videos are
        neither hashed nor updated. Default: all are.
    retry : str
        Reason code of the partial videos to retry, ``all``, or empty for none.
    lost : mapping of str to str, optional
        See `identify`. Default: the videos of shards that are gone.

    Returns
    -------
    StoreComparison
        What is stored, and what has changed.

    Raises
    ------
    RecipeError
        If the class names do not continue those of the store.
    """
    grown = _grown(dataset, store)
    listed = [*dataset.records, *dataset.absent]
    stat_urls(record.path for record in listed)
    known = identify(listed, store, lost_videos(store) if lost is None else lost)
    for k, video_id in known.names.items():
        listed[k] = replace(listed[k], video_id=video_id)
    there = np.flatnonzero(known.rows >= 0)
    left_alone = len(store.videos) - len(there)
    if mine is not None:
        there = there[[mine(listed[k].video_id) for k in there.tolist()]]
    records = [listed[k] for k in there.tolist()]
    found = _Found(store, retry)
    _compare_all(records, known.rows[there], found)
    changes = StoreChanges(
        updates=found.updates, kinds=found.kinds, replaced=found.replaced, stale=found.stale,
        torn=frozenset(found.torn), retried=frozenset(found.retried), gone=frozenset(found.gone),
        unread=found.unread | {listed[k].video_id: error for k, error in known.unread.items()},
        left_alone=left_alone, class_names=grown, hashed=found.hashed,
    )  # fmt: skip
    again = changes.extracted_again | found.unread.keys()
    todo = [listed[k] for k in np.flatnonzero(known.rows < 0).tolist() if listed[k].path]
    todo += [record for record in records if record.video_id in again]
    return StoreComparison(todo, len(there) - len(again), changes)


def apply(changes: StoreChanges, store: Store, source: Mapping[str, Any]) -> None:
    """Write the changed records, class names and data set options into the store.

    Nothing is decoded.

    Parameters
    ----------
    changes : StoreChanges
        Changes of `reconcile`.
    store : Store
        Open store.
    source : mapping
        Options that named the data set, see `flowpipe.run.extraction.run`.

    Raises
    ------
    DiskFullError
        If the disk is full.
    OSError
        If the store cannot be written for another reason.
    """
    if changes.class_names:
        log_class_names(store.path, changes.class_names)
    table, shards = store.catalogue.table, store.catalogue.shards
    notes: defaultdict[int, list[VideoRecord]] = defaultdict(list)
    for video_id, record in changes.updates.items():
        for shard in np.unique(table.columns["shard"][table.rows_of(video_id)]).tolist():
            notes[shard].append(record)
    log_records(
        store.path, {(shards[k].name, shards[k].seal): records for k, records in notes.items()}
    )
    write_remembered(store.path, changes.hashed)
    _note_source(store, source)


def _note_source(store: Store, source: Mapping[str, Any]) -> None:
    """Store the options of this run if they name the same data set in another way.

    A repair lists the videos by them. Values of ``only`` add up. Options for another data set or
    folder change nothing.
    """
    before = store.header.dataset
    if any(before.get(key) != source.get(key) for key in ("dataset", "root", "base")):
        return
    now = dict(source)
    parts = [before.get("only"), now.pop("only", None)]
    if all(parts):
        now["only"] = list(dict.fromkeys(chain.from_iterable(filter(None, parts))))
    if now != before:
        log_dataset(store.path, now)


class _Found:
    """Differences between stored videos and their records and files, found so far."""

    def __init__(self, store: Store, retry: str) -> None:
        self.catalogue, self.retry = store.catalogue, retry
        self.remembered = {
            video_id: (size, mtime_ns, head_of(sha256))
            for video_id, (size, mtime_ns, sha256) in read_remembered(store.path).items()
        }
        self.others = _other_rows(store.catalogue)
        self.updates: dict[str, VideoRecord] = {}
        self.kinds: Counter[str] = Counter()
        self.replaced: dict[str, str] = {}
        self.stale: dict[str, FileFacts] = {}
        self.gone: set[str] = set()
        self.retried: set[str] = set()
        self.torn: set[str] = set()
        self.hashed: dict[str, tuple[int, int, str]] = {}
        self.unread: dict[str, OSError] = {}


def _compare_all(records: Sequence[VideoRecord], rows: NDArray[np.int64], found: _Found) -> None:
    """Compare complete videos, in the rows `rows`, with their present records and files."""
    whole, remembered = found.catalogue.columns, found.remembered
    columns = {name: whole[name][rows] for name in ("parts", "record", *COMPARED)}
    stats = stat_all([record.path for record in records])
    unchanged, gone = stats.find_unchanged(columns), stats.bytes < 0
    for k in np.flatnonzero(~unchanged & ~gone).tolist() if remembered else ():
        now = int(stats.bytes[k]), int(stats.mtime_ns[k]), int(columns["source_sha256"][k])
        unchanged[k] = remembered.get(records[k].video_id) == now
    torn = np.isin(rows, find_mismatched_rows(found.catalogue))
    odd = ~unchanged | torn | (record_digests(records) != columns["record"])
    odd |= np.isin(rows, list(found.others))
    if found.retry:
        odd |= whole["partial"][rows + columns["parts"] - 1] != 0
    for k in np.flatnonzero(odd).tolist():
        row, video_id = int(rows[k]), records[k].video_id
        _compare_record(records[k], row, found)
        if gone[k]:
            found.gone.add(video_id)
            continue
        _compare_source(records[k], row, bool(unchanged[k]), found)
        if video_id in found.replaced or video_id in found.unread:
            continue
        if torn[k]:
            found.torn.add(video_id)
        last = row + int(columns["parts"][k]) - 1
        if found.retry and whole["partial"][last]:
            if found.retry in ("all", found.catalogue.meta(last).get("reason")):
                found.retried.add(video_id)


def _compare_record(record: VideoRecord, row: int, found: _Found) -> None:
    """Add the differences between a record and the stored one to `found`."""
    old = record_in(found.catalogue.meta(row))
    record = replace(record, path=record.path or old.path)
    differ = [name for name in RECORD_FIELDS if getattr(record, name) != getattr(old, name)]
    if differ:
        found.updates[record.video_id] = record
        found.kinds.update(differ)


def _compare_source(record: VideoRecord, row: int, unchanged: bool, found: _Found) -> None:
    """Add to `found` whether a video is replaced, or has older extractions in the store."""
    kept, video_id = _source(found.catalogue, row), record.video_id
    stored = kept
    others = [_source(found.catalogue, other) for other in found.others.get(row, ())]
    if not unchanged:
        now = facts_if_there(record.path)
        if now is None:
            return  # the file has just gone; the next run reports it
        # A run may have stopped after it published a new extraction and before it removed the old.
        parts = found.catalogue.table.columns["parts"][found.others.get(row, [])].tolist()
        in_one_piece = [one for one, n in zip(others, parts, strict=True) if n == 1]
        present = next((one for one in in_one_piece if is_of(one, now)), None)
        try:
            same = present is not None or has_stored_bytes(record.path, now, stored)
        except OSError as error:
            found.unread[video_id] = error
            return
        if not same:
            found.replaced[video_id] = record.path
            return
        if present is None:
            found.hashed[video_id] = now.bytes, now.mtime_ns, stored["sha256"]
        else:
            stored = present
    if any(one != stored for one in (kept, *others)):
        found.stale[video_id] = FileFacts(
            int(stored.get("bytes", -1)), int(stored.get("mtime_ns", 0)),
            tag=str(stored.get("tag", "")),
        )  # fmt: skip


def _source(catalogue: Catalogue, row: int) -> dict[str, Any]:
    source = catalogue.meta(row).get("source")
    return source if isinstance(source, dict) else {}


def _other_rows(catalogue: Catalogue) -> dict[int, list[int]]:
    """Return rows of superseded extractions of complete videos, by the row of the valid one."""
    table, whole = catalogue.table, catalogue.complete.astype(np.int64)
    counts = np.zeros(len(table.ids), bool)
    for part in range(int(table.columns["parts"][whole].max(initial=0))):
        counts[whole[table.columns["parts"][whole] > part] + part] = True
    others: defaultdict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(~counts).tolist():
        with suppress(KeyError):  # a part of an incomplete video
            others[catalogue.find(table.ids[row])].append(row)
    return others


def _grown(dataset: Dataset, store: Store) -> tuple[str, ...]:
    """Return the class names of a data set if they extend those of the store, else ().

    Raises
    ------
    RecipeError
        If they contradict those of the store.
    """
    now, then = tuple(dataset.class_names), store.header.class_names
    if now == then[: len(now)]:  # equal, or fewer: labels mean the same
        return ()
    if now[: len(then)] == then:
        return now
    at = next((k for k, (a, b) in enumerate(zip(now, then, strict=False)) if a != b), len(now))
    here = f"{now[at]!r}" if at < len(now) else "none"
    raise RecipeError(
        f"{store.path} has {count_noun(len(then), 'class', 'classes')} and these videos "
        f"{len(now)}: class {at} is {then[at]!r} there and {here} here, so labels would mix; new "
        "classes must follow the old ones (--class-names fixes their order), or choose "
        "another folder"
    )
