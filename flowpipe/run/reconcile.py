"""Data set + store -> what differs: other labels, other bytes, moved files, sources that are gone.

Size and time of change of a file are compared first; only a file in which they differ is hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.datasets import Dataset
from flowpipe.errors import RecipeError, RemoteError
from flowpipe.remote import Facts, facts_of, is_url, look_up
from flowpipe.store import Store
from flowpipe.store.manifest import note_class_names, note_records
from flowpipe.types import VideoRecord
from flowpipe.words import counted

RECORD_FIELDS = ("labels", "subset", "splits", "segments", "ambiguous", "path")
SOURCES_FILE = "sources.jsonl"
"""Sizes and times at which a changed file was found to have its stored SHA-256, a line each."""


@dataclass(frozen=True)
class Stored:
    """What a store knows of the source of one video."""

    record: VideoRecord
    bytes: int
    mtime_ns: int
    sha256: str
    tag: str


@dataclass(frozen=True)
class Changes:
    """What of a store is no longer as the data set and its files are."""

    updates: Mapping[str, VideoRecord] = field(default_factory=dict)
    """By id: records that replace the stored ones; nothing is decoded for them."""
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Videos by what differs in their record, such as ``labels``."""
    replaced: frozenset[str] = frozenset()
    """Videos whose source has other bytes than those that were extracted."""
    stale: frozenset[str] = frozenset()
    """Videos of which the store holds an older extraction beside the present one."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Present paths of the sources of replaced and stale videos, by id."""
    retried: frozenset[str] = frozenset()
    """Partial videos that are extracted again because ``--retry`` names their reason."""
    gone: frozenset[str] = frozenset()
    """Stored videos whose source is gone or cannot be reached."""
    left_alone: int = 0
    """Stored videos that the data set does not list."""
    class_names: tuple[str, ...] = ()
    """The longer list of class names, if it has grown."""
    same: Mapping[str, Facts] = field(default_factory=dict)
    """Files with another size or time that have the stored SHA-256."""

    def lines(self) -> list[str]:
        """Return a sentence for each kind of change that there is."""
        lines = [
            f"{count} done before have {'another' if kind in ('subset', 'path') else 'other'} "
            f"{kind} now: the store is updated without decoding"
            for kind, count in self.kinds.items()
        ]
        if self.class_names:
            lines.append(
                f"the list of classes has grown to {counted(len(self.class_names), 'name')}"
            )
        if self.replaced:
            lines.append(
                f"{len(self.replaced)} done before have other bytes now: they are extracted again"
            )
        if self.retried:
            lines.append(
                f"{len(self.retried)} stored in part are tried again; if they fail they stay"
            )
        if self.gone:
            lines.append(
                f"{len(self.gone)} done before have no source that can be reached; they stay"
            )
        if self.left_alone:
            lines.append(
                f"{counted(self.left_alone, 'video')} of the store not listed here; no change"
            )
        return lines


def stored_facts(store: Store) -> Iterator[tuple[str, Stored]]:
    """Yield what the store knows of each whole video, by id."""
    ids = store.catalogue.ids
    for row in store.catalogue.whole.tolist():
        meta = store.catalogue.meta(row)
        source = meta.get("source") or {}
        yield (
            ids[row],
            Stored(
                VideoRecord.from_json(meta["record"]), int(source.get("bytes", -1)),
                int(source.get("mtime_ns", 0)), str(source.get("sha256", "")),
                str(source.get("tag", "")),
            ),
        )  # fmt: skip


def reconcile(
    dataset: Dataset, store: Store, mine: Callable[[VideoRecord], bool]
) -> tuple[list[VideoRecord], Changes]:
    """Compare the records of a data set and their files with what a store holds.

    Parameters
    ----------
    dataset : Dataset
    store : Store
    mine : callable
        Whether this run is the one that takes care of a video; others are not hashed or updated.

    Returns
    -------
    records : list of VideoRecord
        Those that have a file, under the ids that the store knows them by.
    changes : Changes

    Raises
    ------
    RecipeError
        If the class names are not a continuation of those of the store.
    """
    grown = _grown(dataset, store)
    stored = dict(stored_facts(store))
    listed = [*dataset.records, *dataset.absent]
    look_up(record.path for record in dataset.records)
    names = _stored_ids(listed, stored)
    known = _remembered(store.path)
    records: list[VideoRecord] = []
    updates: dict[str, VideoRecord] = {}
    kinds: Counter[str] = Counter()
    replaced, gone, same = set(), set(), {}
    for record in listed:
        video_id = names.get(record.video_id, record.video_id)
        old = stored.get(video_id)
        if old is None:
            if record.path:
                records.append(record)
            continue
        record = replace(record, video_id=video_id, path=record.path or old.record.path)
        facts = _facts(record.path)
        if facts is None:
            gone.add(video_id)
        else:
            records.append(record)
        if not mine(record):
            continue
        if facts is not None and not _unchanged(record.path, facts, old, known.get(video_id)):
            if is_url(record.path) or _sha256(record.path) != old.sha256:
                replaced.add(video_id)
                continue
            same[video_id] = facts
        differ = [n for n in RECORD_FIELDS if getattr(record, n) != getattr(old.record, n)]
        if differ:
            updates[video_id] = record
            kinds.update(differ)
    listed_ids = {names.get(record.video_id, record.video_id) for record in listed}
    stale = _twice(store)
    anew = replaced | stale
    changes = Changes(
        updates=updates,
        kinds=kinds,
        replaced=frozenset(replaced),
        stale=stale,
        gone=frozenset(gone),
        left_alone=len(stored.keys() - listed_ids),
        class_names=grown,
        same=same,
        sources={record.video_id: record.path for record in records if record.video_id in anew},
    )
    return records, changes


def apply(changes: Changes, store: Store) -> None:
    """Write into the store what it is to say of its videos from now on; nothing is decoded.

    Raises
    ------
    DiskFullError
    OSError
    """
    if changes.class_names:
        note_class_names(store.path, changes.class_names)
    seals = {facts.name: facts.seal for facts in store.catalogue.shards}
    notes: defaultdict[tuple[str, str], list[VideoRecord]] = defaultdict(list)
    for video_id, record in changes.updates.items():
        for shard in dict.fromkeys(store.videos[video_id].shards):
            notes[shard, seals[shard]].append(record)
    note_records(store.path, notes)
    if changes.same:
        with (store.path / SOURCES_FILE).open("a", encoding="utf-8") as file:
            for video_id, facts in changes.same.items():
                values = {"video_id": video_id, "bytes": facts.bytes, "mtime_ns": facts.mtime_ns}
                file.write(f"{json.dumps(values)}\n")


def _grown(dataset: Dataset, store: Store) -> tuple[str, ...]:
    """The class names of a data set if they continue those of the store; empty if they are them."""
    now, then = tuple(dataset.class_names), store.header.class_names
    if not now or now == then:
        return ()
    if now[: len(then)] == then:
        return now
    at = next((k for k, (a, b) in enumerate(zip(now, then, strict=False)) if a != b), len(now))
    here = f"{now[at]!r}" if at < len(now) else "none"
    raise RecipeError(
        f"{store.path} has {counted(len(then), 'class', 'classes')} and these videos {len(now)}: "
        f"class {at} is {then[at]!r} there and {here} here, so labels would mix; new "
        "classes must come behind the old ones (--class-names fixes their order), or choose "
        "another folder"
    )


def _stored_ids(listed: list[VideoRecord], stored: Mapping[str, Stored]) -> dict[str, str]:
    """Stored ids of files that are listed under another id: by path, else by size and SHA-256."""
    ids = {record.video_id for record in listed}
    paths = {record.path for record in listed if record.path}
    free = {video_id: old for video_id, old in stored.items() if video_id not in ids}
    by_path = {old.record.path: video_id for video_id, old in free.items()}
    by_size: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for video_id, old in free.items():
        if old.sha256 and old.record.path not in paths:
            by_size[old.bytes][old.sha256] = video_id
    names: dict[str, str] = {}
    for record in listed if free else ():
        if record.video_id in stored or not record.path:
            continue
        found = by_path.pop(record.path, None)
        if found is None and by_size and not is_url(record.path):
            facts = _facts(record.path)
            if facts is not None and by_size.get(facts.bytes):
                found = by_size[facts.bytes].pop(_sha256(record.path), None)
        if found is not None:
            names[record.video_id] = found
    return names


def _unchanged(path: str, now: Facts, old: Stored, known: tuple[int, int] | None) -> bool:
    """Whether a file is, by what is known without reading it, the one that was extracted."""
    if old.bytes < 0 or not (old.sha256 or is_url(path)):
        return True  # imported, or made before sources were recorded: nothing to compare
    if old.tag and now.tag:
        return old.tag == now.tag
    if not now.mtime_ns or not old.mtime_ns:
        return now.bytes == old.bytes
    return (now.bytes, now.mtime_ns) in ((old.bytes, old.mtime_ns), known)


def partial_videos(store: Store, retry: str) -> frozenset[str]:
    """Ids of the videos stored in part for a reason that ``--retry`` names, or ``all``."""
    catalogue, found = store.catalogue, set()
    for row in np.flatnonzero(catalogue.columns["partial"]).tolist() if retry else ():
        if retry in ("all", catalogue.meta(row).get("reason")):
            found.add(catalogue.ids[row])
    return frozenset(found)


def _twice(store: Store) -> frozenset[str]:
    """Ids of the videos of which another shard holds an extraction of other bytes."""
    table = store.catalogue.table
    found = set()
    for row in range(table.used, len(table.ids)):
        repeat = store.catalogue.meta(row)["source"]
        video_id = table.ids[row]
        if video_id in store.videos and store.videos[video_id].meta.get("source") != repeat:
            found.add(video_id)
    return frozenset(found)


def _remembered(store: Path) -> dict[str, tuple[int, int]]:
    try:
        with (store / SOURCES_FILE).open(encoding="utf-8", errors="replace") as lines:
            found = {}
            for line in lines:
                try:
                    values: dict[str, Any] = json.loads(line)
                    found[values["video_id"]] = values["bytes"], values["mtime_ns"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # cut short by a crash: the file is hashed once more
            return found
    except OSError:
        return {}


def _facts(path: str) -> Facts | None:
    """What is known of a file; None if it cannot be looked at."""
    if not path:
        return None
    try:
        return facts_of(path)
    except (RemoteError, OSError):
        return None


def _sha256(path: str) -> str:
    """SHA-256 of a regular file; empty if it cannot be read."""
    try:
        if not facts_of(path).regular:
            return ""
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    except OSError:
        return ""
