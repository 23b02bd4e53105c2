"""Videos extracted again -> a store without their older extractions.

When the new extraction is published, the older shard is copied without these videos, byte for
byte, and removed.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.errors import FormatError
from flowpipe.remote import FileFacts
from flowpipe.run.planning.spans import SpanKey, shard_name
from flowpipe.store import files, layout, open_store
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.manifest import log_removed, read_manifest
from flowpipe.store.rows import digests
from flowpipe.store.salvage import copy_entry, writer_like
from flowpipe.store.shard import read_shard


def supersede(
    store: Path,
    sources: Mapping[str, FileFacts],
    retried: Collection[str] = (),
    before: Collection[tuple[str, str]] = (),
) -> list[str]:
    """Remove older extractions of videos that were extracted again.

    Parameters
    ----------
    store : Path
        Store in which the new extractions are published.
    sources : mapping of str to FileFacts
        Facts of the present source of each video, by id. A video is skipped if the store has no
        extraction of this source in one piece.
    retried : collection of str
        Ids of videos that were retried with the same bytes.
    before : collection of (str, str)
        File name and seal of the shards that the store had before the run.

    Returns
    -------
    list of str
        A sentence for each shard that stays because an image to be copied is damaged.
    """
    damaged = []
    # Array jobs share shards, so one job at a time changes them.
    with _lock_store(store):
        catalogue = open_store(store, skip_broken=True).catalogue
        for shard, keys in _older(catalogue, sources, retried, before).items():
            try:
                _remove(store, catalogue.shards[shard].name, keys)
            except FormatError as error:
                damaged.append(
                    f"{catalogue.shards[shard].name} is damaged ({error}), so older extractions in "
                    f"it stay; run `flowpipe verify --repair {store}`"
                )
    return damaged


@contextmanager
def _lock_store(store: Path) -> Iterator[None]:
    fd = os.open(store / layout.STORE_FILE, os.O_RDWR | os.O_CLOEXEC)
    try:
        with files.lock_exclusively(fd):
            yield
    finally:
        os.close(fd)


def _older(
    catalogue: Catalogue,
    sources: Mapping[str, FileFacts],
    retried: Collection[str],
    before: Collection[tuple[str, str]],
) -> dict[int, set[SpanKey]]:
    """Return keys of the extractions that a newer one in one piece supersedes, by shard."""
    table, columns = catalogue.table, catalogue.table.columns
    new = np.array([(facts.name, facts.seal) not in before for facts in catalogue.shards], bool)
    older: defaultdict[int, set[SpanKey]] = defaultdict(set)
    for video_id in (*sources, *retried):
        rows, now = table.rows_of(video_id), sources.get(video_id)
        if now is None:
            present = new[columns["shard"][rows]]
        else:
            present = columns["source_bytes"][rows] == now.bytes
            present &= columns["source_mtime_ns"][rows] == now.mtime_ns
            tag = columns["source_tag"][rows]
            if now.tag:
                present &= (tag == 0) | (tag == digests([now.tag]))
        if np.any(present & (columns["parts"][rows] == 1)):
            for row in rows[~present].tolist():
                key = video_id, int(columns["part"][row]), int(columns["parts"][row])
                older[int(columns["shard"][row])].add(key)
    return older


def _remove(store: Path, name: str, keys: Collection[SpanKey]) -> None:
    path = store / layout.SHARDS_FOLDER / name
    shard = read_shard(path)
    seal = shard.attrs[layout.ATTR_SEAL]
    kept = [entry for entry in shard.entries if entry.key not in keys]
    if kept:
        records: Mapping[str, Any] = read_manifest(store, keys=False).records.get((name, seal), {})
        name_of_kept = shard_name([(seal, 0, 1), *(e.key for e in kept)])
        draft = writer_like(shard, path.with_name(f"{name_of_kept}.h5"))
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with draft as writer:
                for entry in kept:
                    copy_entry(fd, shard, entry, writer, records.get(entry.video_id))
                writer.publish()
        finally:
            os.close(fd)
    log_removed(store, name, seal)
    path.unlink(missing_ok=True)
