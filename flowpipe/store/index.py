"""Shards of a store -> one catalogue of its videos, kept in index.h5 and mapped instead of loaded.

Derived: it can be deleted at any time and is made again from the shards.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.modality import MODALITIES
from flowpipe.store import files, layout
from flowpipe.store.layout import Entry
from flowpipe.store.shard import Shard, open_shard, read_shard

_VERSION = "2"
_SLACK_BYTES = 1 << 17  # HDF5 headers of some twenty tables
_COLUMNS = {
    "shard": "<u4", "part": "<u4", "parts": "<u4", "partial": "u1", "frames": "<u8",
    "frame_first": "<u8",
}  # fmt: skip

Key = tuple[str, int, int]


@dataclass(frozen=True)
class ShardFacts:
    """What a reader needs to know of a shard without opening it."""

    name: str
    size: int
    mtime_ns: int
    seal: str
    recipe_digest: str
    backend: dict[str, Any]
    pts_at: int
    streams: dict[str, dict[str, Any]]
    """By modality: ``codec``, ``quantiser``, ``at`` (position of each table), ``images``."""


@dataclass(frozen=True)
class Catalogue:
    """Every entry of a store once, sorted by video id, parts and part."""

    shards: tuple[ShardFacts, ...]
    columns: Mapping[str, NDArray[Any]]
    """By name: those of `_COLUMNS`, and ``MODALITY/first``, ``/count``, ``/height``, ``/width``."""
    ids: Texts
    metas: Texts
    whole: NDArray[np.uint64]
    """Row of the first part of each video that is there from beginning to end, by video id."""
    incomplete: tuple[str, ...]
    """Videos of which a part is missing."""

    def find(self, video_id: str) -> int:
        """Row of a video's first part; KeyError if it is not there or not whole."""
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


class Texts:
    """Many strings in one array of bytes."""

    def __init__(self, blob: NDArray[np.uint8], offset: NDArray[np.uint64]) -> None:
        self.blob, self.offset = blob, offset

    @classmethod
    def pack(cls, values: Iterable[str]) -> Texts:
        encoded = [value.encode("utf-8") for value in values]
        offset = np.zeros(len(encoded) + 1, "<u8")
        np.cumsum([len(e) for e in encoded], out=offset[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offset)

    def raw(self, row: int) -> bytes:
        start, stop = self.offset[row : row + 2].tolist()
        return self.blob[start:stop].tobytes()

    def __getitem__(self, row: int) -> str:
        return self.raw(row).decode("utf-8")

    def __len__(self) -> int:
        return len(self.offset) - 1


def open_catalogue(
    store: Path, *, refresh: bool = True, broken: dict[str, str] | None = None
) -> Catalogue:
    """The catalogue of a store as its shards are now.

    Only shards that are new since the index was written are opened. With `refresh` the index is
    then written again, where the folder may be written to. A shard that cannot be read is an error
    or, where `broken` is given, is left out and its name and fault are added there.
    """
    known = _load(store / layout.INDEX_FILE)
    stats = {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in shard_paths(store)
    }
    if known and stats == {f.name: (f.size, f.mtime_ns) for f in known.shards}:
        return known
    pieces: list[tuple[ShardFacts, tuple[Entry, ...]]] = []
    kept = _unchanged(store, known, stats) if known else {}
    for name, (size, mtime_ns) in stats.items():
        if known and name in kept:
            pieces.append((kept[name], tuple(_entries(known, name))))
            continue
        try:
            shard = read_shard(store / layout.SHARDS_FOLDER / name)
            pieces.append((facts_of(shard, size, mtime_ns), shard.entries))
        except FormatError as error:
            if broken is None:
                raise FormatError(
                    f"{error}\nrun `flowpipe verify {store} --repair`, or open the store with "
                    "skip_broken=True to do without this shard"
                ) from error
            broken[name] = str(error)
    made = make_catalogue(pieces)
    if refresh and not broken:
        # A reader without the right to write, or on a full disk, does without.
        with contextlib.suppress(OSError, FlowpipeError):
            write_index(store, made)
    return made


def _unchanged(
    store: Path, known: Catalogue, stats: Mapping[str, tuple[int, int]]
) -> dict[str, ShardFacts]:
    """Shards of an index that are as they were; none if any changed or went.

    The index has left out what a shard held twice, so without one of the two it cannot be used.
    """
    kept: dict[str, ShardFacts] = {}
    for facts in known.shards:
        size, mtime_ns = stats.get(facts.name, (-1, -1))
        if size != facts.size:
            return {}
        if mtime_ns != facts.mtime_ns:
            with open_shard(store / layout.SHARDS_FOLDER / facts.name) as file:
                if file.attrs.get(layout.ATTR_SEAL) != facts.seal:
                    return {}
        kept[facts.name] = replace(facts, mtime_ns=mtime_ns)
    return kept


def shard_paths(store: Path) -> list[Path]:
    """Files of a store that are shards, in name order."""
    folder = store / layout.SHARDS_FOLDER
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if layout.SHARD_NAME.fullmatch(p.name))


def facts_of(shard: Shard, size: int, mtime_ns: int) -> ShardFacts:
    """What the catalogue keeps of a shard that has been read."""
    return ShardFacts(
        shard.path.name, size, mtime_ns, shard.attrs[layout.ATTR_SEAL],
        shard.attrs[layout.ATTR_DIGEST], json.loads(shard.attrs[layout.ATTR_BACKEND]), shard.pts_at,
        {
            name: {
                "codec": stream.codec, "quantiser": stream.quantiser, "at": dict(stream.at),
                "images": len(stream.crc32),
            }
            for name, stream in shard.streams.items()
        },
    )  # fmt: skip


def make_catalogue(pieces: Iterable[tuple[ShardFacts, tuple[Entry, ...]]]) -> Catalogue:
    """Sort the entries of shards and find out which videos are whole.

    An entry that is there twice counts once: done before partial, then the first shard by name. A
    video that is there both whole and split counts with the fewest parts that are all there.
    """
    ordered = sorted(pieces, key=lambda piece: piece[0].name)
    shards = tuple(facts for facts, _ in ordered)
    rows = sorted(
        (
            (e.video_id.encode("utf-8"), e.parts, e.part, e.status != "done", number, e)
            for number, (_, entries) in enumerate(ordered)
            for e in entries
        ),
        key=itemgetter(0, 1, 2, 3, 4),
    )
    rows = [r for i, r in enumerate(rows) if not i or rows[i - 1][:3] != r[:3]]
    whole, incomplete = [], []
    start = 0
    while start < len(rows):
        stop = start
        while stop < len(rows) and rows[stop][0] == rows[start][0]:
            stop += 1
        first = _first_whole(rows, start, stop)
        if first is None:
            incomplete.append(rows[start][5].video_id)
        else:
            whole.append(first)
        start = stop
    entries = [row[5] for row in rows]
    columns: dict[str, NDArray[Any]] = {
        "shard": np.array([row[4] for row in rows], "<u4"),
        "partial": np.array([row[3] for row in rows], "u1"),
        **{n: np.array([getattr(e, n) for e in entries], d) for n, d in _COLUMNS.items()
           if n not in ("shard", "partial")},
    }  # fmt: skip
    for name in MODALITIES:
        if any(name in facts.streams for facts in shards):
            columns[f"{name}/first"] = np.array([e.first.get(name, 0) for e in entries], "<u8")
            columns[f"{name}/count"] = np.array([e.images.get(name, 0) for e in entries], "<u8")
            sizes = np.array([e.size.get(name, (0, 0)) for e in entries], "<u4").reshape(-1, 2)
            columns[f"{name}/height"], columns[f"{name}/width"] = sizes[:, 0], sizes[:, 1]
    return Catalogue(
        shards,
        columns,
        Texts.pack(e.video_id for e in entries),
        Texts.pack(e.meta for e in entries),
        np.array(whole, "<u8"),
        tuple(incomplete),
    )  # fmt: skip


def _first_whole(rows: list[Any], start: int, stop: int) -> int | None:
    """First row among those of one video whose parts are all there and join without a gap."""
    while start < stop:
        parts = rows[start][1]
        run = [row for row in rows[start:stop] if row[1] == parts]
        joined = [row[2] for row in run] == list(range(parts))
        if joined and not any(row[3] for row in run[:-1]):
            return start
        start += len(run)
    return None


def write_index(store: Path, catalogue: Catalogue) -> Path:
    """Write index.h5 of a store, whole or not at all."""
    final = store / layout.INDEX_FILE
    temporary = files.temporary_name(final)
    tables: dict[str, NDArray[Any]] = {"whole": catalogue.whole}
    shards = [json.dumps(vars(facts)) for facts in catalogue.shards]
    for name, texts in (
        ("shards", Texts.pack(shards)), ("ids", catalogue.ids),
        ("metas", catalogue.metas), ("incomplete", Texts.pack(catalogue.incomplete)),
    ):  # fmt: skip
        tables[f"{name}/blob"], tables[f"{name}/offset"] = texts.blob, texts.offset
    tables.update((f"columns/{name}", column) for name, column in catalogue.columns.items())
    try:
        with files.full_disk_in_words(final):
            # Asked first: HDF5 on a full disk prints a traceback for every object it closes.
            files.need_space(store, sum(t.nbytes for t in tables.values()) + _SLACK_BYTES)
            with h5py.File(temporary, "w-", libver=("v110", "v110"), locking=False) as file:
                file.attrs["format"] = "flowpipe-index"
                file.attrs["index_version"] = _VERSION
                for name, table in tables.items():
                    file[name] = table
            files.publish(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
    return final


def _load(path: Path) -> Catalogue | None:
    """An index file mapped into memory; None if there is none that this code can read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs["index_version"] != _VERSION:
                return None

            def texts(name: str) -> Texts:
                return Texts(
                    _mapped(path, file[f"{name}/blob"]), _mapped(path, file[f"{name}/offset"])
                )

            columns: dict[str, NDArray[Any]] = {}

            def add(name: str, node: Any) -> None:
                if isinstance(node, h5py.Dataset):
                    columns[name] = _mapped(path, node)

            file["columns"].visititems(add)
            shards, incomplete = texts("shards"), texts("incomplete")
            return Catalogue(
                tuple(ShardFacts(**json.loads(shards[i])) for i in range(len(shards))),
                columns, texts("ids"), texts("metas"), _mapped(path, file["whole"]),
                tuple(incomplete[i] for i in range(len(incomplete))),
            )  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError, RuntimeError):
        return None


def _mapped(path: Path, table: h5py.Dataset) -> NDArray[Any]:
    offset = table.id.get_offset()
    if offset is None or not table.size:
        return np.empty(table.shape, table.dtype)
    # A plain ndarray over the map: indexing np.memmap objects costs several times more.
    return np.asarray(np.memmap(path, table.dtype, "r", offset, table.shape)).view(np.ndarray)


def _entries(known: Catalogue, shard: str) -> Iterator[Entry]:
    """Entries of one shard out of a catalogue."""
    number = [facts.name for facts in known.shards].index(shard)
    modalities = list(known.shards[number].streams)
    columns = known.columns
    for row in np.flatnonzero(columns["shard"] == number).tolist():
        yield Entry(
            known.ids[row], int(columns["part"][row]), int(columns["parts"][row]),
            "partial" if columns["partial"][row] else "done", int(columns["frames"][row]),
            int(columns["frame_first"][row]),
            {m: int(columns[f"{m}/count"][row]) for m in modalities},
            {m: int(columns[f"{m}/first"][row]) for m in modalities},
            {
                m: (int(columns[f"{m}/height"][row]), int(columns[f"{m}/width"][row]))
                for m in modalities
            },
            known.metas[row],
        )  # fmt: skip
