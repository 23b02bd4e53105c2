"""Shard -> rows: one column for each fact of its entries, and CRCs of all tables.

Rows are arrays, so a million videos are merged, written and read without an object for each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES
from flowpipe.store import layout
from flowpipe.store.shard import Shard
from flowpipe.store.texts import METAS_IN_BLOCK, pack_metas
from flowpipe.types import VideoRecord

COLUMNS = {
    "shard": "<u4", "part": "<u4", "parts": "<u4", "partial": "u1", "frames": "<u4",
    "frame_first": "<u8", "pts_crc": "<u4", "meta_block": "<u4", "meta_slot": "<u4",
    "source_bytes": "<i8", "source_mtime_ns": "<i8", "source_tag": "<u8",
    "source_sha256": "<u8", "source_path": "<u8", "record": "<u8",
    "first_crc32": "<u4", "seam_crc32": "<u4",
}  # fmt: skip
"""Columns of every entry, with their dtypes.

``pts_crc`` is the CRC-32 of the timestamps. The columns from ``source_bytes`` on let a run compare
a million videos with their files and lists without reading their metas: size (-1 if unknown), time
of change (at most 0 if unknown), digest of the tag and first 64 bits of the SHA-256 (0 if unknown);
digests of the path and of the record; CRC-32 of a part's first frame and of the frame after it.
"""
STREAM_COLUMNS = {
    "first": "<u8", "count": "<u4", "height": "<u4", "width": "<u4", "tables": "<u4",
}  # fmt: skip
"""Columns of each modality, such as ``rgb/first``. ``tables`` is the CRC-32 of the entry's offsets
and CRCs; a column of `modality.Column` has its own, such as ``warped_flow/homography``."""


def columns_of(modality: str) -> dict[str, str]:
    """Return the columns of one modality.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    dict of str to str
        Dtype by column.
    """
    extra = {column.name: "<u4" for column in MODALITIES[modality].columns}
    return {f"{modality}/{name}": dtype for name, dtype in {**STREAM_COLUMNS, **extra}.items()}


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """Facts of a shard that let it be read without HDF5."""

    name: str
    """File name."""
    size: int
    """Size of the file, bytes."""
    mtime_ns: int
    """Time of change, ns since 1970."""
    seal: str
    recipe_digest: str
    backend: dict[str, Any]
    frames: int
    """Frames of all entries."""
    pts_at: int
    """Position of the timestamps in the file, bytes."""
    streams: dict[str, dict[str, Any]]
    """``codec``, ``quantiser``, ``at`` (position of each table) and ``images``, by modality."""


def facts_of(shard: Shard, size: int, mtime_ns: int) -> ShardFacts:
    """Return the facts of a shard.

    Parameters
    ----------
    shard : Shard
        Its tables.
    size : int
        Bytes of the file.
    mtime_ns : int
        Time of change of the file, ns.

    Returns
    -------
    ShardFacts
        Facts, as the index holds them.
    """
    return ShardFacts(
        name=shard.path.name, size=size, mtime_ns=mtime_ns, seal=shard.attrs[layout.ATTR_SEAL],
        recipe_digest=shard.attrs[layout.ATTR_DIGEST], backend=shard.backend,
        frames=len(shard.pts_s), pts_at=shard.pts_at,
        streams={
            name: {
                "codec": stream.codec, "quantiser": stream.quantiser, "at": dict(stream.at),
                "images": len(stream.crc32),
            }
            for name, stream in shard.streams.items()
        },
    )  # fmt: skip


@dataclass
class ShardRows:
    """Entries of some shards, in any order, before they are merged."""

    facts: list[ShardFacts] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    """Video id of each row, UTF-8."""
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """One value per row; ``shard`` is a position in `facts`, ``meta_block`` one in `blocks`."""
    blocks: list[bytes] = field(default_factory=list)
    """Compressed metas, see `pack_metas`."""


def rows_of(shard: Shard, facts: ShardFacts, records: Mapping[str, Mapping[str, Any]]) -> ShardRows:
    """Return the rows of one shard.

    Parameters
    ----------
    shard : Shard
        Shard that passed `check_bounds`.
    facts : ShardFacts
        Facts of the shard.
    records : mapping
        Records that replace the shard's own, by video id (S29).

    Returns
    -------
    ShardRows
        One row per entry.

    Raises
    ------
    BrokenClauseError
        If the meta of an entry is not that of a video.
    """
    entries = shard.entries
    slots = np.arange(len(entries))
    columns: dict[str, NDArray[Any]] = {
        "shard": np.zeros(len(entries), "<u4"),
        "partial": np.array([e.status != "done" for e in entries], "u1"),
        "pts_crc": _crcs(((e.frame_first, e.frames) for e in entries), shard.pts_s),
        "meta_block": (slots // METAS_IN_BLOCK).astype("<u4"),
        "meta_slot": (slots % METAS_IN_BLOCK).astype("<u4"),
    }
    for name in ("part", "parts", "frames", "frame_first"):
        columns[name] = np.array([getattr(e, name) for e in entries], COLUMNS[name])
    for modality, stream in shard.streams.items():
        spans = [(e.first[modality], e.images[modality]) for e in entries]
        sizes = np.array([e.size[modality] for e in entries], "<u4").reshape(-1, 2)
        columns[f"{modality}/first"] = np.array([first for first, _ in spans], "<u8")
        columns[f"{modality}/count"] = np.array([count for _, count in spans], "<u4")
        columns[f"{modality}/height"], columns[f"{modality}/width"] = sizes[:, 0], sizes[:, 1]
        columns[f"{modality}/tables"] = np.array(
            [
                zlib.crc32(
                    stream.crc32[a : a + n].data, zlib.crc32(stream.offset[a : a + n + 1].data)
                )
                for a, n in spans
            ],
            "<u4",
        )
        for name, values in stream.columns.items():
            columns[f"{modality}/{name}"] = _crcs(spans, values)
    texts, metas = [], []
    for e in entries:
        text, meta = e.meta, parse_meta(e.meta, f"{facts.name}: {e.video_id!r}")
        if e.video_id in records:
            meta["record"] = dict(records[e.video_id])
            text = layout.to_json(meta)
        texts.append(text)
        metas.append(meta)
    columns |= _source_columns(metas)
    ids = [e.video_id.encode("utf-8") for e in entries]
    return ShardRows([facts], ids, columns, pack_metas(texts))


def _crcs(spans: Iterable[tuple[int, int]], values: NDArray[Any]) -> NDArray[np.uint32]:
    return np.array(
        [zlib.crc32(np.ascontiguousarray(values[a : a + n]).tobytes()) for a, n in spans], "<u4"
    )


def _source_columns(metas: Sequence[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    sources = [one if isinstance(one := meta.get("source"), dict) else {} for meta in metas]
    records = [record_in(meta) for meta in metas]
    edges = [one if isinstance(one := meta.get("edges"), dict) else {} for meta in metas]
    tags = [str(source.get("tag") or "") for source in sources]
    return {
        "source_bytes": np.array([_int(source.get("bytes")) for source in sources], "<i8"),
        "source_mtime_ns": np.array([_int(source.get("mtime_ns")) for source in sources], "<i8"),
        "source_tag": np.where([not tag for tag in tags], 0, digests(tags)).astype("<u8"),
        "source_sha256": np.array([head_of(source.get("sha256")) for source in sources], "<u8"),
        "source_path": digests(record.path for record in records),
        "record": record_digests(records),
        "first_crc32": np.array([_crc_in(edge.get("first_crc32")) for edge in edges], "<u4"),
        "seam_crc32": np.array([_crc_in(edge.get("seam_crc32")) for edge in edges], "<u4"),
    }


def head_of(sha256: Any) -> int:
    """Return the first 64 bits of a digest.

    Parameters
    ----------
    sha256 : object
        Hexadecimal SHA-256.

    Returns
    -------
    int
        The bits; 0 if it is no such text.
    """
    try:
        return int(sha256[:16], 16)
    except (TypeError, ValueError):
        return 0


def record_in(meta: Mapping[str, Any]) -> VideoRecord:
    """Read the record of a meta object.

    Parameters
    ----------
    meta : mapping
        Meta of an entry.

    Returns
    -------
    VideoRecord
        The record; an empty one if it is damaged.
    """
    try:
        return VideoRecord.from_json(meta["record"])
    except (ValueError, KeyError):
        return VideoRecord("", "")


def record_digests(records: Iterable[VideoRecord]) -> NDArray[np.uint64]:
    """Compute digests of records without their ids.

    Parameters
    ----------
    records : iterable of VideoRecord
        Records, n of them.

    Returns
    -------
    uint64 (n,)
        Digests.
    """
    return digests(
        repr(
            (
                r.path, r.labels, r.subset, r.splits,
                [(s.label, s.start_s, s.end_s) for s in r.segments], r.ambiguous,
            )
        )
        for r in records
    )  # fmt: skip


def digests(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Compute the BLAKE2b digests of texts.

    Parameters
    ----------
    texts : iterable of str
        Texts, n of them.

    Returns
    -------
    uint64 (n,)
        Digests of 64 bits.
    """
    raw = (text.encode("utf-8", "surrogatepass") for text in texts)
    return np.frombuffer(b"".join([blake2b(r, digest_size=8).digest() for r in raw]), "<u8")


def _int(value: Any) -> int:
    """Return a value that is a signed 64-bit integer; else -1."""
    return value if isinstance(value, int) and abs(value) < 1 << 63 else -1


def _crc_in(value: Any) -> int:
    """Return a value that is a CRC-32; else 0."""
    return value if isinstance(value, int) and 0 <= value < 1 << 32 else 0


def parse_meta(text: str, name: str) -> dict[str, Any]:
    """Parse the meta object of an entry; it has the keys `layout.META_KEYS`.

    Parameters
    ----------
    text : str
        JSON.
    name : str
        Shard or file, for the error message.

    Returns
    -------
    dict
        JSON values.

    Raises
    ------
    BrokenClauseError
        If a key is missing or has the wrong type, or the record is not valid.
    """
    try:
        values: dict[str, Any] = strict.parse_json(text, f"{name}: the meta")
        VideoRecord.from_json(values["record"])
        for key in ("source", "facts", "clipped_share"):
            if not isinstance(values[key], dict):
                raise ValueError(f"{key} is no object")
        return values
    except (KeyError, ValueError) as error:
        raise layout.broken_clause("S14", f"{name}: the meta lacks or mistypes {error}") from error
    except FormatError as error:
        raise layout.broken_clause("S14", str(error)) from error


def check_bounds(shard: Shard) -> None:
    """Raise BrokenClauseError unless all positions in the tables lie inside the shard.

    The seal proves that the tables have not changed, not that their writer was correct.

    Parameters
    ----------
    shard : Shard
        Tables to check.
    """
    end, name = shard.path.stat().st_size, shard.path.name
    for e in shard.entries:
        if e.part >= e.parts:
            raise layout.broken_clause(
                "S11", f"{name}: part {e.part} of {e.parts} of {e.video_id!r}"
            )
        if not 0 < e.frames <= len(shard.pts_s) - e.frame_first:
            raise layout.broken_clause(
                "S12", f"{name}: frames of {e.video_id!r} lie outside /frames"
            )
        for modality, stream in shard.streams.items():
            if e.images[modality] > len(stream.crc32) - e.first[modality]:
                raise layout.broken_clause(
                    "S19", f"{name}: images of {e.video_id!r} lie outside {modality}"
                )
        if e.status not in layout.STATUSES:
            raise layout.broken_clause(
                "S14", f"{name}: status of {e.video_id!r} is {e.status[:20]!r}"
            )
        try:
            layout.check_video_id(e.video_id)
        except ValueError as error:
            raise layout.broken_clause("S10", f"{name}: {error}") from error
    for modality, stream in shard.streams.items():
        offset = stream.offset
        if int(offset[0]) or np.any(offset[1:] <= offset[:-1]):
            raise layout.broken_clause(
                "S16", f"{name}: offsets of {modality} do not increase from 0"
            )
        if int(offset[-1]) > end - stream.at[layout.BYTES.name]:
            raise layout.broken_clause("S16", f"{name}: images of {modality} lie outside the file")
