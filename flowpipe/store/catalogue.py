"""Entries of shards -> one catalogue of a store: columns sorted by video id, CRCs of all tables.

All is kept in arrays, so that a million videos are merged, written and mapped without an object
for each.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES
from flowpipe.store import layout
from flowpipe.store.shard import Shard
from flowpipe.store.texts import METAS_IN_BLOCK, Metas, Texts, pack_metas
from flowpipe.types import VideoRecord

COLUMNS = {
    "shard": "<u4", "part": "<u4", "parts": "<u4", "partial": "u1", "frames": "<u4",
    "frame_first": "<u8", "pts_crc": "<u4", "meta_block": "<u4", "meta_slot": "<u4",
    "source_bytes": "<i8", "source_mtime_ns": "<i8", "record_crc": "<u4",
}  # fmt: skip
"""Columns of every entry, with their types. ``pts_crc`` is the CRC-32 of its timestamps; the last
three let a run compare a million videos with their sources without a look at their metas."""
STREAM_COLUMNS = {
    "first": "<u8", "count": "<u4", "height": "<u4", "width": "<u4", "tables": "<u4",
}  # fmt: skip
"""Columns of each modality, as ``MODALITY/first``. ``tables`` is the CRC-32 of the entry's offsets
and CRCs; a column of `modality.Column` has its own, as ``MODALITY/homography``."""


def columns_of(modality: str) -> dict[str, str]:
    """Names and types of the columns that one modality adds."""
    extra = {column.name: "<u4" for column in MODALITIES[modality].columns}
    return {f"{modality}/{name}": dtype for name, dtype in {**STREAM_COLUMNS, **extra}.items()}


@dataclass(frozen=True)
class ShardFacts:
    """What a reader needs to know of a shard without opening it."""

    name: str
    size: int
    mtime_ns: int
    seal: str
    recipe_digest: str
    backend: dict[str, Any]
    frames: int
    pts_at: int
    streams: dict[str, dict[str, Any]]
    """By modality: ``codec``, ``quantiser``, ``at`` (position of each table), ``images``."""


def facts_of(shard: Shard, size: int, mtime_ns: int) -> ShardFacts:
    """Return what the catalogue keeps of a shard that has been read."""
    return ShardFacts(
        shard.path.name, size, mtime_ns, shard.attrs[layout.ATTR_SEAL],
        shard.attrs[layout.ATTR_DIGEST], shard.backend,
        len(shard.pts_s), shard.pts_at,
        {
            name: {
                "codec": stream.codec, "quantiser": stream.quantiser, "at": dict(stream.at),
                "images": len(stream.crc32),
            }
            for name, stream in shard.streams.items()
        },
    )  # fmt: skip


@dataclass
class Rows:
    """Entries of some shards, in any order, before they are merged."""

    facts: list[ShardFacts] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """``shard`` counts in `facts`, ``meta_block`` in `blocks`."""
    blocks: list[bytes] = field(default_factory=list)


def rows_of(shard: Shard, facts: ShardFacts, records: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Columns of the entries of one shard.

    Parameters
    ----------
    shard : Shard
        As `check_bounds` lets it pass.
    facts : ShardFacts
    records : mapping
        By video id: the record that replaces the shard's own (S29).
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
    metas = [
        _relabelled(e.meta, records[e.video_id]) if e.video_id in records else e.meta
        for e in entries
    ]
    parsed = [json.loads(meta) for meta in metas]
    sources = [
        meta.get("source") if isinstance(meta.get("source"), dict) else {} for meta in parsed
    ]
    for name in ("bytes", "mtime_ns"):
        columns[f"source_{name}"] = np.array([_int(source.get(name)) for source in sources], "<i8")
    columns["record_crc"] = np.array([record_crc(meta["record"]) for meta in parsed], "<u4")
    ids = [e.video_id.encode("utf-8") for e in entries]
    return Rows([facts], ids, columns, pack_metas(metas))


def _crcs(spans: Iterable[tuple[int, int]], values: NDArray[Any]) -> NDArray[np.uint32]:
    return np.array(
        [zlib.crc32(np.ascontiguousarray(values[a : a + n]).tobytes()) for a, n in spans], "<u4"
    )


def record_crc(record: Mapping[str, Any]) -> int:
    """CRC-32 of a record as JSON with sorted keys, for comparing it with another."""
    return zlib.crc32(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())


def _int(value: Any) -> int:
    """A value as a signed 64-bit number; -1 where it is none."""
    return value if isinstance(value, int) and abs(value) < 1 << 63 else -1


def parse_meta(text: str, name: str) -> dict[str, Any]:
    """Return the meta object of an entry, of which readers may rely on `layout.META_KEYS`.

    Parameters
    ----------
    text : str
        JSON.
    name : str
        Where it stands, for the error.

    Raises
    ------
    BrokenClauseError
        If it is no such object, or its record is none of a video.
    """
    try:
        values: dict[str, Any] = strict.parse_json(text, f"{name}: the meta")
        VideoRecord.from_json(values["record"])
        for key in ("source", "facts", "clipped_share"):
            if not isinstance(values[key], dict):
                raise ValueError(f"{key} is no object")
        return values
    except (KeyError, ValueError) as error:
        raise layout.broken("S14", f"{name}: the meta lacks or mistypes {error}") from error
    except FormatError as error:
        raise layout.broken("S14", str(error)) from error


def _relabelled(meta: str, record: Mapping[str, Any]) -> str:
    return layout.to_json({**json.loads(meta), "record": dict(record)})


def check_bounds(shard: Shard) -> None:
    """Raise BrokenClauseError unless all positions that a shard states lie inside it.

    The seal says that tables are as they were written, not that their writer was sound.
    """
    end, name = shard.path.stat().st_size, shard.path.name
    for e in shard.entries:
        if e.part >= e.parts:
            raise layout.broken("S11", f"{name}: part {e.part} of {e.parts} of {e.video_id!r}")
        if not 0 < e.frames <= len(shard.pts_s) - e.frame_first:
            raise layout.broken("S12", f"{name}: frames of {e.video_id!r} lie outside /frames")
        for modality, stream in shard.streams.items():
            if e.images[modality] > len(stream.crc32) - e.first[modality]:
                raise layout.broken(
                    "S19", f"{name}: images of {e.video_id!r} lie outside {modality}"
                )
        if e.status not in layout.STATUSES:
            raise layout.broken("S14", f"{name}: status of {e.video_id!r} is {e.status[:20]!r}")
        try:
            layout.check_video_id(e.video_id)
        except ValueError as error:
            raise layout.broken("S10", f"{name}: {error}") from error
        parse_meta(e.meta, f"{name}: {e.video_id!r}")
    for modality, stream in shard.streams.items():
        offset = stream.offset
        if int(offset[0]) or np.any(offset[1:] <= offset[:-1]):
            raise layout.broken("S16", f"{name}: offsets of {modality} do not increase from 0")
        if int(offset[-1]) > end - stream.at[layout.BYTES]:
            raise layout.broken("S16", f"{name}: images of {modality} lie outside the file")


class Catalogue:
    """Every entry of a store once, sorted by video id, parts and part.

    Attributes
    ----------
    shards : sequence of ShardFacts
        In name order.
    columns : mapping of str to array
        `COLUMNS` and, for each modality, `columns_of`.
    ids : Texts
    whole : uint64
        Row of the first part of each video that is there from beginning to end, by video id.
    incomplete : tuple of str
        Videos of which a part is missing.
    table : Table
        The columns with those rows behind them that are there twice.
    """

    def __init__(self, shards: Sequence[ShardFacts], table: Table) -> None:
        self.shards, self.table = shards, table
        self.columns = {name: column[: table.used] for name, column in table.columns.items()}
        self.ids, self.whole, self.incomplete = table.ids, table.whole, table.incomplete

    def meta(self, row: int) -> dict[str, Any]:
        """Return the meta object of an entry, with its record of today.

        Rows of `table` that repeat an entry have one too.

        Raises
        ------
        FormatError
            If the index is damaged.
        """
        columns = self.table.columns
        text = self.table.metas.get(int(columns["meta_block"][row]), int(columns["meta_slot"][row]))
        return parse_meta(text, f"{layout.INDEX_FILE}: row {row}")

    def find(self, video_id: str) -> int:
        """Return the row of a video's first part; KeyError if it is not there or not whole."""
        wanted = video_id.encode("utf-8", "surrogateescape")
        low, high = 0, len(self.whole)
        while low < high:
            middle = (low + high) // 2
            if self.ids.raw(int(self.whole[middle])) < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self.whole) and self.ids.raw(int(self.whole[low])) == wanted:
            return int(self.whole[low])
        raise KeyError(video_id)


@dataclass(frozen=True)
class Table:
    """All rows of a catalogue; those from `used` on repeat an entry that counts elsewhere (S24)."""

    ids: Texts
    columns: Mapping[str, NDArray[Any]]
    metas: Metas
    whole: NDArray[np.uint64]
    incomplete: tuple[str, ...]
    used: int

    def rows(self, shards: Sequence[ShardFacts], keep: Sequence[int]) -> Rows:
        """Return the rows of some of the shards, to be merged with others.

        Parameters
        ----------
        shards : sequence of ShardFacts
            Of the catalogue.
        keep : sequence of int
            Which of them.
        """
        number = np.full(len(shards), -1, np.int64)
        number[list(keep)] = np.arange(len(keep))
        ids, columns = self.ids.all(), dict(self.columns)
        blocks = self.metas.blocks.all()
        chosen = number[columns["shard"]] >= 0
        if not chosen.all():
            ids = [ids[row] for row in np.flatnonzero(chosen).tolist()]
            columns = {name: column[chosen] for name, column in columns.items()}
            needed, columns["meta_block"] = np.unique(columns["meta_block"], return_inverse=True)
            blocks = [blocks[block] for block in needed.tolist()]
        columns["shard"] = number[columns["shard"]].astype("<u4")
        return Rows([shards[k] for k in keep], ids, columns, blocks)


def merge(pieces: Iterable[Rows]) -> Catalogue:
    """Sort the entries of shards and find out which videos are whole.

    An entry that is there twice counts once: done before partial, then the first shard by name. A
    video that is there both whole and split counts with the fewest parts that are all there.
    """
    pieces = [piece for piece in pieces if piece.facts]
    facts = [one for piece in pieces for one in piece.facts]
    by_name = sorted(range(len(facts)), key=lambda k: facts[k].name)
    number = np.empty(len(facts), "<u4")
    number[by_name] = np.arange(len(facts))
    modalities = [m for m in MODALITIES if any(f"{m}/count" in p.columns for p in pieces)]
    dtypes = COLUMNS | {n: d for m in modalities for n, d in columns_of(m).items()}
    columns = {
        name: np.concatenate(
            [piece.columns.get(name, np.zeros(len(piece.ids), dtype)) for piece in pieces]
            or [np.empty(0, dtype)]
        ).astype(dtype, copy=False)
        for name, dtype in dtypes.items()
    }
    ids = [raw for piece in pieces for raw in piece.ids]
    _count_on(columns["shard"], pieces, [len(piece.facts) for piece in pieces])
    _count_on(columns["meta_block"], pieces, [len(piece.blocks) for piece in pieces])
    columns["shard"] = number[columns["shard"]]
    order, used = _order(ids, columns)
    ids = [ids[row] for row in order.tolist()]
    columns = {name: column[order] for name, column in columns.items()}
    whole, incomplete = _whole(
        ids[:used], {n: columns[n][:used] for n in ("part", "parts", "partial")}
    )
    blocks = [block for piece in pieces for block in piece.blocks]
    metas = Metas(Texts.pack(blocks), np.array([zlib.crc32(block) for block in blocks], "<u4"))
    table = Table(Texts.pack(ids), columns, metas, whole, incomplete, used)
    return Catalogue([facts[k] for k in by_name], table)


def _count_on(column: NDArray[Any], pieces: Sequence[Rows], lengths: Sequence[int]) -> None:
    """Make numbers that count in their own piece count over all of them."""
    row, before = 0, 0
    for piece, length in zip(pieces, lengths, strict=True):
        column[row : row + len(piece.ids)] += np.uint32(before)
        row, before = row + len(piece.ids), before + length


def _order(ids: list[bytes], columns: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int64], int]:
    """Order of the rows that count, then of those that repeat one; and how many count."""
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
    rank = _groups([ids[row] for row in by_id.tolist()])
    keys = [columns[name][by_id] for name in ("shard", "partial", "part", "parts")]
    inner = np.lexsort((*keys, rank))
    order = by_id[inner]
    same = [rank[inner], columns["parts"][order], columns["part"][order]]
    repeats = np.zeros(len(order), bool)
    repeats[1:] = np.logical_and.reduce([values[1:] == values[:-1] for values in same])
    return np.concatenate([order[~repeats], order[repeats]]), int((~repeats).sum())


def _groups(sorted_ids: list[bytes]) -> NDArray[np.int64]:
    """Number of each row's id among the different ids."""
    new = [a != b for a, b in zip(sorted_ids, sorted_ids[1:], strict=False)]
    return np.concatenate(
        [np.zeros(min(1, len(sorted_ids)), np.int64), np.cumsum(new, dtype=np.int64)]
    )


def _whole(
    ids: list[bytes], columns: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.uint64], tuple[str, ...]]:
    """First row of each video that is whole, and the ids of those that are not."""
    if not ids:
        return np.empty(0, "<u8"), ()
    video, parts = _groups(ids), columns["parts"]
    edge = np.ones(len(ids), bool)
    edge[1:] = (video[1:] != video[:-1]) | (parts[1:] != parts[:-1])
    starts = np.flatnonzero(edge)  # of the rows that are parts of one way to split a video
    counts = np.diff(np.append(starts, len(ids)))
    broken_off = (columns["partial"] != 0) & (columns["part"] + 1 < parts)
    # different parts below `parts`, as many as `parts`: they are all there
    joined = (counts == parts[starts]) & ~np.logical_or.reduceat(broken_off, starts)
    good = starts[joined]
    first = np.ones(len(good), bool)
    first[1:] = video[good[1:]] != video[good[:-1]]
    whole = good[first]
    missing = np.setdiff1d(video, video[whole])
    rows = np.searchsorted(video, missing)
    return whole.astype("<u8"), tuple(ids[row].decode("utf-8") for row in rows.tolist())
