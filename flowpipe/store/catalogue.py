"""Rows of shards -> catalogue of a store: columns sorted by video id."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.modality import MODALITIES
from flowpipe.store import layout
from flowpipe.store.manifest import Key
from flowpipe.store.rows import COLUMNS, ShardFacts, ShardRows, columns_of, parse_meta
from flowpipe.store.texts import PackedMeta, PackedStrings


class Catalogue:
    """Every entry of a store once, sorted by video id, parts and part.

    Parameters
    ----------
    shards : sequence of ShardFacts
        Facts of the shards, in name order.
    table : Table
        Rows, with those that repeat an entry.

    Attributes
    ----------
    shards : sequence of ShardFacts
        In name order.
    columns : mapping of str to array
        `COLUMNS` and, for each modality, `columns_of`; one value per row.
    ids : PackedStrings
        Video id of each row.
    complete : uint64 (videos,)
        Row of the first part of each complete video, by video id.
    incomplete : tuple of str
        Ids of videos of which a part is missing.
    table : Table
        The same rows, followed by those that repeat an entry.
    """

    def __init__(self, shards: Sequence[ShardFacts], table: Table) -> None:
        self.shards, self.table = shards, table
        self.columns = {name: column[: table.used] for name, column in table.columns.items()}
        self.ids, self.complete, self.incomplete = table.ids, table.complete, table.incomplete

    def meta(self, row: int) -> dict[str, Any]:
        """Return the meta object of an entry, with its current record.

        Parameters
        ----------
        row : int
            Row of `table`; entries that repeat another have a meta too.

        Returns
        -------
        dict
            Meta object; its ``record`` is the current one.

        Raises
        ------
        FormatError
            If the index is damaged.
        """
        columns = self.table.columns
        text = self.table.metas.get(int(columns["meta_block"][row]), int(columns["meta_slot"][row]))
        return parse_meta(text, f"{layout.INDEX_FILE}: row {row}")

    def find(self, video_id: str) -> int:
        """Find a video.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        int
            Row of its first part.

        Raises
        ------
        KeyError
            If the video is missing or incomplete.
        """
        wanted = video_id.encode("utf-8", "surrogateescape")
        low, high = 0, len(self.complete)
        while low < high:
            middle = (low + high) // 2
            if self.ids.raw(int(self.complete[middle])) < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self.complete) and self.ids.raw(int(self.complete[low])) == wanted:
            return int(self.complete[low])
        raise KeyError(video_id)


@dataclass(frozen=True, kw_only=True)
class Table:
    """All rows of a catalogue; those from `used` on repeat an entry that counts elsewhere (S24)."""

    ids: PackedStrings
    columns: Mapping[str, NDArray[Any]]
    metas: PackedMeta
    complete: NDArray[np.uint64]
    incomplete: tuple[str, ...]
    used: int

    def rows_of(self, video_id: str) -> NDArray[np.int64]:
        """Find all rows of a video, repeated ones too.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        int64 (n,)
            Rows; empty if the video is missing.
        """
        raw = video_id.encode("utf-8", "surrogateescape")
        ranges = (0, self.used), (self.used, len(self.ids))
        ends = [
            (self.ids.bisect(raw, low, high), self.ids.bisect(raw + b"\0", low, high))
            for low, high in ranges
        ]
        return np.concatenate([np.arange(first, end) for first, end in ends])

    def keys_of(self, video_id: str) -> set[Key]:
        """Return the keys of a video's entries.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        set of (video_id, part, parts)
            Key of each entry.
        """
        rows = self.rows_of(video_id)
        part, parts = (self.columns[name][rows].tolist() for name in ("part", "parts"))
        return {(video_id, a, b) for a, b in zip(part, parts, strict=True)}

    def rows(self, shards: Sequence[ShardFacts], keep: Sequence[int]) -> ShardRows:
        """Return the rows of some shards, to be merged with others.

        Parameters
        ----------
        shards : sequence of ShardFacts
            All shards of the catalogue.
        keep : sequence of int
            Numbers of the shards to keep.

        Returns
        -------
        ShardRows
            Their rows.
        """
        number = np.full(len(shards), -1, np.int64)
        number[list(keep)] = np.arange(len(keep))
        ids, columns = self.ids.unpack_all(), dict(self.columns)
        blocks = self.metas.blocks.unpack_all()
        chosen = number[columns["shard"]] >= 0
        if not chosen.all():
            ids = [ids[row] for row in np.flatnonzero(chosen).tolist()]
            columns = {name: column[chosen] for name, column in columns.items()}
            needed, columns["meta_block"] = np.unique(columns["meta_block"], return_inverse=True)
            blocks = [blocks[block] for block in needed.tolist()]
        columns["shard"] = number[columns["shard"]].astype("<u4")
        return ShardRows([shards[k] for k in keep], ids, columns, blocks)


def merge(pieces: Iterable[ShardRows]) -> Catalogue:
    """Sort the entries of shards and find the complete videos.

    An entry that two shards hold counts once: done before partial, then the first shard by name. A
    video that is stored with several numbers of parts counts with the fewest that are complete.

    Parameters
    ----------
    pieces : iterable of ShardRows
        Rows of all shards.

    Returns
    -------
    Catalogue
        Tables of the store.
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
    whole, incomplete = _find_complete(
        ids[:used], {n: columns[n][:used] for n in ("part", "parts", "partial")}
    )
    blocks = [block for piece in pieces for block in piece.blocks]
    metas = PackedMeta(
        PackedStrings.pack(blocks), np.array([zlib.crc32(block) for block in blocks], "<u4")
    )
    table = Table(
        ids=PackedStrings.pack(ids), columns=columns, metas=metas, complete=whole,
        incomplete=incomplete, used=used,
    )  # fmt: skip
    return Catalogue([facts[k] for k in by_name], table)


def _count_on(column: NDArray[Any], pieces: Sequence[ShardRows], lengths: Sequence[int]) -> None:
    """Turn numbers within each piece into numbers over all pieces, in place."""
    row, before = 0, 0
    for piece, length in zip(pieces, lengths, strict=True):
        column[row : row + len(piece.ids)] += np.uint32(before)
        row, before = row + len(piece.ids), before + length


def _order(ids: list[bytes], columns: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int64], int]:
    """Return the order of the rows, those that repeat an entry last, and how many do not."""
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
    """Return the number of each row's id among the distinct ids."""
    new = [a != b for a, b in zip(sorted_ids, sorted_ids[1:], strict=False)]
    return np.concatenate(
        [np.zeros(min(1, len(sorted_ids)), np.int64), np.cumsum(new, dtype=np.int64)]
    )


def _find_complete(
    ids: list[bytes], columns: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.uint64], tuple[str, ...]]:
    """Return the first row of each complete video, and the ids of the incomplete ones."""
    if not ids:
        return np.empty(0, "<u8"), ()
    video, parts = _groups(ids), columns["parts"]
    edge = np.ones(len(ids), bool)
    edge[1:] = (video[1:] != video[:-1]) | (parts[1:] != parts[:-1])
    starts = np.flatnonzero(edge)  # first row of each (video, number of parts)
    counts = np.diff(np.append(starts, len(ids)))
    broken_off = (columns["partial"] != 0) & (columns["part"] + 1 < parts)
    # distinct parts below `parts`, as many as `parts`: none is missing
    joined = (counts == parts[starts]) & ~np.logical_or.reduceat(broken_off, starts)
    good = starts[joined]
    first = np.ones(len(good), bool)
    first[1:] = video[good[1:]] != video[good[:-1]]
    whole = good[first]
    missing = np.setdiff1d(video, video[whole])
    rows = np.searchsorted(video, missing)
    return whole.astype("<u8"), tuple(ids[row].decode("utf-8") for row in rows.tolist())
