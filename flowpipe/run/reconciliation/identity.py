"""Listed videos + store -> the ids under which the store knows them.

An id is the path of a file below its folder. A file that was renamed or moved is therefore listed
under another id than it is stored under, and stores of older versions have ids without extension.
Such videos keep their stored id: they are found by path, else by size and SHA-256. Videos of lost
shards keep their ids too, and are extracted again under them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.ids import without_extension
from flowpipe.errors import FormatError
from flowpipe.remote import is_url
from flowpipe.run.ledger import outcomes_of
from flowpipe.run.reconciliation.sources import facts_if_there, sha256_of
from flowpipe.store import Store
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.index_file import read_index
from flowpipe.store.manifest import read_manifest
from flowpipe.store.rows import digests, record_in
from flowpipe.types import VideoRecord


def lost_videos(store: Store) -> dict[str, str]:
    """Find the videos that are incomplete because a shard is gone.

    Parameters
    ----------
    store : Store
        Open store.

    Returns
    -------
    dict of str to str
        Last known source path by id; empty if it is unknown.
    """
    if not store.lost:
        return {}
    published = read_manifest(store.path).published
    held = {key[0] for name in store.lost for one in published[name] for key in one.keys}
    return paths_of(store.path, held - set(store.videos), last_index(store.path))


def last_index(store: Path) -> Catalogue | None:
    """Read the catalogue of the index, which may list shards that are gone.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    Catalogue or None
        The catalogue; None without an index.
    """
    try:
        return read_index(store)[0]
    except FormatError:
        return None


def paths_of(store: Path, video_ids: Collection[str], index: Catalogue | None) -> dict[str, str]:
    """Find the last known source path of some videos.

    Parameters
    ----------
    store : Path
        Folder of the store.
    video_ids : collection of str
        Ids of the videos.
    index : Catalogue or None
        Result of `last_index`.

    Returns
    -------
    dict of str to str
        Path by id; empty if ledger, manifest and index have none.
    """
    paths = dict.fromkeys(video_ids, "")
    if not paths:
        return paths
    for outcome in outcomes_of(store):
        if outcome.get("video_id") in paths and outcome.get("path"):
            paths[str(outcome["video_id"])] = str(outcome["path"])
    for records in read_manifest(store, keys=False).records.values():
        paths |= {key: str(records[key]["path"]) for key in paths.keys() & records.keys()}
    if index is not None:
        for video_id in paths:
            for row in index.table.rows_of(video_id)[:1].tolist():
                paths[video_id] = _path(index, row)
    return paths


@dataclass(frozen=True)
class IdentifiedVideos:
    """Rows and ids of listed videos in a store."""

    rows: NDArray[np.int64]
    """Row of the first part of each listed video, (n,); -1 for a video that is not complete."""
    names: dict[int, str]
    """Stored or lost ids of videos that are listed under another id, by position in the list."""
    covered: frozenset[str]
    """Lost ids of videos that are complete under another id."""
    unread: dict[int, OSError]
    """Storage failures of files that had to be hashed, by position in the list."""


def identify(
    listed: Sequence[VideoRecord], store: Store, lost: Mapping[str, str]
) -> IdentifiedVideos:
    """Find listed videos in a store.

    Parameters
    ----------
    listed : sequence of VideoRecord
        Videos of the data set.
    store : Store
        Open store.
    lost : mapping of str to str
        Last known paths, by id, of incomplete videos that are to be extracted again under their
        ids.

    Returns
    -------
    IdentifiedVideos
        Listed videos and their ids in the store.
    """
    catalogue = store.catalogue
    raw = catalogue.ids.unpack_all()
    row_of = {raw[row]: row for row in catalogue.complete.tolist()}
    rows = np.fromiter(
        (row_of.get(record.video_id.encode(), -1) for record in listed), np.int64, len(listed)
    )
    del raw, row_of  # 200 MB for a million videos
    unknown = [k for k in np.flatnonzero(rows < 0).tolist() if listed[k].path]
    unknown = [k for k in unknown if listed[k].video_id not in lost]
    names: dict[int, str] = {}
    unread: dict[int, OSError] = {}
    for find in (_by_path, partial(_by_content, unread=unread)):
        free = np.setdiff1d(catalogue.complete.astype(np.int64), rows)
        unknown = [k for k in unknown if k not in names]
        if not unknown or not len(free):
            break
        for k, row in find(unknown, listed, free, catalogue):
            names[k], rows[k] = catalogue.ids[row], row
    covered = set()
    for video_id, k in _lost_among(listed, lost).items():
        if rows[k] >= 0:
            covered.add(video_id)
        else:
            names[k] = video_id
    return IdentifiedVideos(rows, names, frozenset(covered), unread)


def _by_path(
    unknown: list[int], listed: Sequence[VideoRecord], free: NDArray[np.int64], catalogue: Catalogue
) -> Iterator[tuple[int, int]]:
    """Yield the position and row of each unknown video that was stored from the same path."""
    wanted = digests(listed[k].path for k in unknown)
    near = free[np.isin(catalogue.columns["source_path"][free], wanted)].tolist()
    row_of = {_path(catalogue, row): row for row in near}
    for k in unknown:
        row = row_of.pop(listed[k].path, None)
        if row is not None:
            yield k, row


def _by_content(
    unknown: list[int],
    listed: Sequence[VideoRecord],
    free: NDArray[np.int64],
    catalogue: Catalogue,
    unread: dict[int, OSError],
) -> Iterator[tuple[int, int]]:
    """Yield the position and row of each unknown video whose file has the stored size and SHA-256.

    Storage failures are added to `unread`.
    """
    columns = catalogue.columns
    free = free[columns["source_sha256"][free] != 0]
    if not len(free):
        return
    sizes: dict[int, int] = {}
    for k in unknown:
        if is_url(listed[k].path):
            continue
        try:
            facts = facts_if_there(listed[k].path, strictly=True)
        except OSError as error:
            unread[k] = error
            continue
        if facts is not None and facts.regular:
            sizes[k] = facts.bytes
    paths = {record.path for record in listed}
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for row in free[np.isin(columns["source_bytes"][free], list(set(sizes.values())))].tolist():
        if _path(catalogue, row) not in paths:  # else the listed file is a copy
            rows[int(columns["source_bytes"][row])].append(row)
    for k, size in sizes.items():
        try:
            sha256 = sha256_of(listed[k].path) if rows[size] else ""
        except OSError as error:
            unread[k] = error
            continue
        for row in rows[size]:
            if sha256 and catalogue.meta(row)["source"]["sha256"] == sha256:
                rows[size].remove(row)
                yield k, row
                break


def _lost_among(listed: Sequence[VideoRecord], lost: Mapping[str, str]) -> dict[str, int]:
    """Return positions of the lost videos that are listed under another id, by lost id.

    They are found by path; else, for older stores, by an id without extension that only one listed
    video has.
    """
    unlisted = lost.keys() - {record.video_id for record in listed} if lost else ()
    if not unlisted:
        return {}
    position = {record.path: k for k, record in enumerate(listed) if record.path}
    stems: defaultdict[str, list[int]] = defaultdict(list)
    for k, record in enumerate(listed):
        stems[without_extension(record.video_id)].append(k)
    found = {}
    for video_id in sorted(unlisted):
        path = lost[video_id]
        near = [
            k for k in stems.get(video_id, ())
            if not path or listed[k].path.rpartition(".")[2] == path.rpartition(".")[2]
        ]  # fmt: skip
        if path in position:
            found[video_id] = position[path]
        elif len(near) == 1:
            found[video_id] = near[0]
    return found


def _path(catalogue: Catalogue, row: int) -> str:
    return record_in(catalogue.meta(row)).path
