"""Videos extracted again from other bytes -> their older extractions leave the store.

Once the new one is there, the older shard is copied without them, byte for byte, and removed.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError
from flowpipe.remote import Facts
from flowpipe.run.plan import SpanKey, shard_name
from flowpipe.store import ShardWriter, Store, StreamSpec, layout
from flowpipe.store.manifest import note_removed, read_manifest
from flowpipe.store.salvage import copy_entry
from flowpipe.store.shard import read_shard


def supersede(
    store: Store,
    sources: Mapping[str, Facts],
    retried: Collection[str] = (),
    before: Collection[tuple[str, str]] = (),
) -> list[str]:
    """Remove older extractions of videos that were extracted again.

    Parameters
    ----------
    store : Store
        Opened after the new extractions were published.
    sources : mapping of str to Facts
        Present source of each video, by id. A video of which the store holds no extraction of it
        in one piece is left as it is.
    retried : collection of str
        Ids of partial videos that were tried again with the same bytes.
    before : collection of (str, str)
        File name and seal of the shards from before the run.

    Returns
    -------
    list of str
        A sentence for each shard that stays because an image that is to be copied is damaged.
    """
    table, names = store.catalogue.table, store.shards
    rows: defaultdict[str, list[tuple[str, SpanKey, bool]]] = defaultdict(list)
    wanted = {video_id.encode(): video_id for video_id in (*sources, *retried)}
    seals = [(facts.name, facts.seal) for facts in store.catalogue.shards]
    for row, raw in enumerate(table.ids.all()):
        if raw not in wanted:
            continue
        video_id = wanted[raw]
        columns = table.columns
        meta = store.catalogue.meta(row)
        source, now = meta.get("source") or {}, sources.get(video_id)
        if now is None:
            present = seals[int(columns["shard"][row])] not in before
        else:
            present = (source.get("bytes"), source.get("mtime_ns")) == (now.bytes, now.mtime_ns)
        key = video_id, int(columns["part"][row]), int(columns["parts"][row])
        rows[video_id].append((names[int(columns["shard"][row])], key, present))
    older: defaultdict[str, set[SpanKey]] = defaultdict(set)
    for entries in rows.values():
        if any(present and key[2] == 1 for _, key, present in entries):
            for shard, key, present in entries:
                if not present:
                    older[shard].add(key)
    damaged = []
    for shard, keys in older.items():
        try:
            _remove(store.path, shard, keys)
        except FormatError as error:
            damaged.append(
                f"{shard} is damaged ({error}), so older extractions in it stay; "
                f"run `flowpipe verify --repair {store.path}`"
            )
    return damaged


def _remove(store: Path, name: str, keys: Collection[SpanKey]) -> None:
    path = store / layout.SHARDS_FOLDER / name
    shard = read_shard(path)
    seal = shard.attrs[layout.ATTR_SEAL]
    kept = [entry for entry in shard.entries if entry.key not in keys]
    if kept:
        records: Mapping[str, Any] = read_manifest(store, keys=False).records.get((name, seal), {})
        draft = ShardWriter(
            path.with_name(f"{shard_name([(seal, 0, 1), *(e.key for e in kept)])}.h5"),
            recipe=shard.attrs["recipe"],
            recipe_digest=shard.attrs["recipe_digest"],
            backend=shard.backend,
            streams={n: StreamSpec(s.codec, s.quantiser) for n, s in shard.streams.items()},
        )
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with draft as writer:
                for entry in kept:
                    copy_entry(fd, shard, entry, writer, records.get(entry.video_id))
                writer.publish()
        finally:
            os.close(fd)
    note_removed(store, name, seal)
    path.unlink(missing_ok=True)
