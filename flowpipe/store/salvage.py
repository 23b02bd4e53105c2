"""Damaged shard -> its good videos in a new shard, byte for byte."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError, is_storage_failure
from flowpipe.store import layout
from flowpipe.store.layout import Entry
from flowpipe.store.manifest import Key
from flowpipe.store.rows import parse_meta
from flowpipe.store.shard import Shard, read_shard
from flowpipe.store.writer import ShardWriter
from flowpipe.types import EncodedPlanes, Span, VideoRecord

_WINDOW = 64


def salvage(
    path: str | Path, writer: ShardWriter, records: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Key], dict[Key, str]]:
    """Copy every video of a shard whose payloads have their CRCs.

    Parameters
    ----------
    path : path
        Damaged shard.
    writer : ShardWriter
        Receives the good videos. The caller publishes it, under the same name if wanted.
    records : mapping
        Records of the manifest that replace the shard's own, by video id (S29).

    Returns
    -------
    kept : list of (video_id, part, parts)
        Keys of the copied entries.
    lost : dict
        Fault by (video_id, part, parts).

    Raises
    ------
    FormatError
        If the tables are damaged: nothing in the shard can be trusted, and all of it must be
        extracted again. If the storage failed, with the reason ``io``: the shard may be good.
    """
    shard = read_shard(Path(path))
    kept: list[Key] = []
    lost: dict[Key, str] = {}
    fd = os.open(path, os.O_RDONLY)
    try:
        for entry in shard.entries:
            try:
                copy_entry(fd, shard, entry, writer, records.get(entry.video_id))
                kept.append(entry.key)
            except FormatError as error:
                writer.rollback()
                if is_storage_failure(error):
                    raise
                lost[entry.key] = str(error)
    finally:
        os.close(fd)
    return kept, lost


def writer_like(shard: Shard, path: Path) -> ShardWriter:
    """Begin a new shard with the recipe, backend and streams of another.

    Parameters
    ----------
    shard : Shard
        The other shard.
    path : Path
        Final name of the new one.

    Returns
    -------
    ShardWriter
        Its writer.
    """
    return ShardWriter(
        path,
        recipe=shard.attrs[layout.ATTR_RECIPE],
        recipe_digest=shard.attrs[layout.ATTR_DIGEST],
        backend=shard.backend,
        streams={n: layout.StreamSpec(s.codec, s.quantiser) for n, s in shard.streams.items()},
    )


def copy_entry(
    fd: int,
    shard: Shard,
    entry: Entry,
    writer: ShardWriter,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Copy one video, or part, without decoding it.

    Parameters
    ----------
    fd : int
        Descriptor of the shard's file.
    shard : Shard
        Tables of the shard.
    entry : Entry
        Entry of `shard` to copy.
    writer : ShardWriter
        Receives the video.
    record : mapping, optional
        Record that replaces the entry's own.

    Raises
    ------
    FormatError
        If a payload is damaged.
    """
    meta = parse_meta(entry.meta, f"{shard.path.name}: {entry.video_id!r}")
    if record is not None:
        meta["record"] = dict(record)
    writer.begin(Span(VideoRecord.from_json(meta["record"]), entry.part, entry.parts))
    for modality, stream in shard.streams.items():
        first, height, width = entry.first[modality], *entry.size[modality]
        for start in range(first, first + entry.images[modality], _WINDOW):
            stop = min(start + _WINDOW, first + entry.images[modality])
            offsets = stream.offset[start : stop + 1].tolist()
            try:
                block = os.pread(
                    fd, offsets[-1] - offsets[0], stream.at[layout.BYTES.name] + offsets[0]
                )
            except OSError as error:
                message = f"{shard.path} cannot be read: {error.strerror}"
                raise layout.broken_clause("S17", message, error) from error
            payloads = tuple(
                block[a - offsets[0] : b - offsets[0]]
                for a, b in zip(offsets, offsets[1:], strict=False)
            )
            for k, payload in enumerate(payloads, start):
                if zlib.crc32(payload) != stream.crc32[k]:
                    raise layout.broken_clause(
                        "S17", f"image {k} of {modality} does not have its CRC"
                    )
            columns = {name: values[start:stop] for name, values in stream.columns.items()}
            writer.append(EncodedPlanes(modality, payloads, height, width, columns))
    writer.append_pts(shard.pts_s[entry.frame_first : entry.frame_first + entry.frames])
    writer.commit(meta)
