"""Catalogue <-> index.h5, read in one piece; its checksums are compared on open.

The file is HDF5, so that other tools can open it, but is read here without HDF5. The first 512
bytes are a user block with the position and SHA-256 of the table of contents, which has the
position and CRC-32 of each array. The compressed metas have a CRC for each block, compared when the
block is unpacked. The file is read, not mapped: on NFS, a process that touches a mapped page of a
file that another machine has replaced is killed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe import atomic, strict
from flowpipe.errors import FormatError
from flowpipe.store import files, layout
from flowpipe.store.catalogue import Catalogue, Table
from flowpipe.store.rows import COLUMNS, ShardFacts, columns_of
from flowpipe.store.texts import PackedMeta, PackedStrings

VERSION = 6
_MAGIC = b"flowpipe-index "
_USER_BLOCK_BYTES = 512
_SLACK_BYTES = 1 << 18  # HDF5 headers of some fifty tables
_LAZY = "metas/blob"
"""Array that has no CRC of its own; its blocks have."""
_FACT_TYPES = {n: get_origin(kind) or kind for n, kind in get_type_hints(ShardFacts).items()}
_UNUSABLE = (OSError, MemoryError, ValueError, KeyError, TypeError, IndexError, RecursionError)
_DTYPES = ("|u1", "<u4", "<u8", "<i8")


@dataclass(frozen=True, kw_only=True)
class IndexedState:
    """State of the store that an index was made from; the index is valid until it changes."""

    recipe_digest: str
    manifest: Mapping[str, int]
    """Bytes of each manifest file."""
    left_out: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    """Shards of another recipe: size, bytes; time of change, ns; fault."""
    lost: tuple[str, ...] = ()
    """Shards that were published and are gone."""
    relabels: Mapping[str, int] = field(default_factory=dict)
    """Number of times that the manifest had replaced records of each shard."""
    class_names: tuple[str, ...] | None = None
    """Class names in the manifest; None for none."""
    dataset: Mapping[str, Any] | None = None
    """Origin of the videos in the manifest; None for none."""


class Shards(Sequence[ShardFacts]):
    """Facts of the shards of an index, parsed on first access.

    Parameters
    ----------
    names : list of str
        File names.
    sizes : uint64 (n,)
        Bytes of each file.
    mtimes_ns : int64 (n,)
        Time of change of each file, ns.
    facts : PackedStrings
        The other facts of each shard, JSON.
    """

    def __init__(
        self,
        names: list[str],
        sizes: NDArray[np.uint64],
        mtimes_ns: NDArray[np.int64],
        facts: PackedStrings,
    ) -> None:
        self.names, self.sizes, self._mtimes_ns, self._facts = names, sizes, mtimes_ns, facts
        self._made: dict[int, ShardFacts] = {}

    def stats(self) -> dict[str, tuple[int, int]]:
        """Return size, bytes, and time of change, ns, of each shard by name."""
        pairs = zip(self.sizes.tolist(), self._mtimes_ns.tolist(), strict=True)
        return dict(zip(self.names, pairs, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, number: int) -> ShardFacts: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardFacts]: ...
    def __getitem__(self, number: int | slice) -> ShardFacts | list[ShardFacts]:
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(len(self)))]
        if number not in self._made:
            if not -len(self) <= number < len(self):
                raise IndexError(number)
            facts = _facts_in(self._facts[number % len(self)])
            # The time is stored apart from the facts: copying a store changes only the times.
            self._made[number] = dataclasses.replace(facts, mtime_ns=int(self._mtimes_ns[number]))
        return self._made[number]


def _facts_in(text: str) -> ShardFacts:
    """Parse the facts of one shard; FormatError unless they have the types of `ShardFacts`."""
    values = strict.parse_json(text, f"{layout.INDEX_FILE}: a shard")
    try:
        facts = ShardFacts(**values)
        sound = all(isinstance(values[name], kind) for name, kind in _FACT_TYPES.items()) and all(
            isinstance(s["codec"], dict)
            and isinstance(s["quantiser"], dict)
            and all(isinstance(n, int) and n >= 0 for n in (s["images"], *s["at"].values()))
            for s in facts.streams.values()
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise layout.broken_clause("S06", f"{layout.INDEX_FILE}: a shard lacks {error}") from error
    if not sound:
        raise layout.broken_clause(
            "S06", f"{layout.INDEX_FILE} mistypes what it says of {facts.name!r}"
        )
    return facts


def write_index(store: Path, catalogue: Catalogue, sources: IndexedState) -> Path:
    """Write index.h5 of a store, atomically.

    Parameters
    ----------
    store : Path
        Folder of the store.
    catalogue : Catalogue
        Tables to write.
    sources : IndexedState
        State of the files that the catalogue was made from.

    Returns
    -------
    Path
        The index.

    Raises
    ------
    DiskFullError
        If the disk is full.
    OSError
        If the file cannot be written for another reason.
    """
    final = store / layout.INDEX_FILE
    tables = _tables_of(catalogue)
    with atomic.translate_full_disk(final, "index"), atomic.draft_of(final) as draft:
        # Checked first: HDF5 on a full disk prints a traceback for every object it closes.
        files.check_space(store, sum(t.nbytes for t in tables.values()) + _SLACK_BYTES)
        with h5py.File(
            draft, "w-", libver=("v110", "v110"), locking=False, userblock_size=_USER_BLOCK_BYTES
        ) as file:
            file.attrs[layout.ATTR_FORMAT] = layout.INDEX_FORMAT
            contents: dict[str, Any] = {
                "tables": {name: _write_table(file, name, t) for name, t in tables.items()},
                "used": catalogue.table.used,
                "incomplete": list(catalogue.incomplete),
                "sources": dataclasses.asdict(sources),
            }
            text = json.dumps(contents).encode()
            row = _write_table(file, "contents", np.frombuffer(text, np.uint8))
        head = {"at": row["at"], "bytes": len(text), "sha256": _sha256(text)}
        with draft.open("r+b") as raw:
            raw.write(b"%s%d %s\n" % (_MAGIC, VERSION, json.dumps(head).encode()))
    return final


def read_index(store: Path) -> tuple[Catalogue, IndexedState]:
    """Read the index of a store.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    catalogue : Catalogue
        Tables of all videos.
    sources : IndexedState
        State of the files that they were made from.

    Raises
    ------
    FormatError
        If the index is missing, of another version or damaged.
    """
    path = store / layout.INDEX_FILE
    try:
        with files.open_regular(path) as file:
            content = memoryview(file.read())
        return _read(content)
    except _UNUSABLE as error:
        raise FormatError(f"{path} cannot be used: {error!r}; it will be rebuilt") from error


def _tables_of(catalogue: Catalogue) -> dict[str, NDArray[Any]]:
    table, shards = catalogue.table, catalogue.shards
    facts = PackedStrings.pack([json.dumps(dataclasses.asdict(one)).encode() for one in shards])
    names = PackedStrings.pack([one.name.encode() for one in shards])
    tables: dict[str, NDArray[Any]] = {
        "ids/blob": table.ids.blob, "ids/offset": table.ids.offset,
        "whole": table.complete,
        "shards/names/blob": names.blob, "shards/names/offset": names.offset,
        "shards/facts/blob": facts.blob, "shards/facts/offset": facts.offset,
        "shards/size": np.array([one.size for one in shards], "<u8"),
        "shards/mtime_ns": np.array([one.mtime_ns for one in shards], "<i8"),
        "shards/frames": np.array([one.frames for one in shards], "<u8"),
        "metas/offset": table.metas.blocks.offset, "metas/crc32": table.metas.crc32,
    }  # fmt: skip
    for modality in _modalities(table.columns):
        counts = [one.streams.get(modality, {"images": 0})["images"] for one in shards]
        tables[f"shards/{modality}"] = np.array(counts, "<u8")
    tables |= {f"columns/{name}": column for name, column in table.columns.items()}
    return tables | {_LAZY: table.metas.blocks.blob}


def _modalities(columns: Mapping[str, Any]) -> list[str]:
    return sorted(name.partition("/")[0] for name in columns if name.endswith("/count"))


def _write_table(file: h5py.File, name: str, table: NDArray[Any]) -> dict[str, Any]:
    """Write one array and return its row of the table of contents."""
    table = np.ascontiguousarray(table)
    dataset = file.create_dataset(name, data=table)
    row: dict[str, Any] = {
        "at": dataset.id.get_offset() or 0, "dtype": table.dtype.str, "shape": list(table.shape),
    }  # fmt: skip
    return row if name == _LAZY else {**row, "crc32": zlib.crc32(table.data)}


def _read(content: memoryview) -> tuple[Catalogue, IndexedState]:
    head = bytes(content[:_USER_BLOCK_BYTES]).partition(b"\n")[0]
    version, _, rest = head.removeprefix(_MAGIC).partition(b" ")
    if not head.startswith(_MAGIC) or int(version) != VERSION:
        raise ValueError("it is of another version")
    position = json.loads(rest)
    text = bytes(_slice(content, position["at"], position["bytes"]))
    if _sha256(text) != position["sha256"]:
        raise ValueError("its table of contents does not have its SHA-256")
    contents = json.loads(text)
    tables = {name: _array(content, name, row) for name, row in contents["tables"].items()}

    def texts(name: str) -> PackedStrings:
        blob, offset = tables[f"{name}/blob"], tables[f"{name}/offset"]
        if int(offset[-1]) > len(blob) or np.any(offset[1:] < offset[:-1]):
            raise ValueError(f"{name} lie outside their table")
        return PackedStrings(blob, offset)

    names, facts = texts("shards/names"), texts("shards/facts")
    shards = Shards(
        [name.decode() for name in names.unpack_all()], tables["shards/size"],
        tables["shards/mtime_ns"], facts,
    )  # fmt: skip
    columns = {
        name.removeprefix("columns/"): table
        for name, table in tables.items() if name.startswith("columns/")
    }  # fmt: skip
    table = Table(
        ids=texts("ids"), columns=columns,
        metas=PackedMeta(texts("metas"), tables["metas/crc32"]), complete=tables["whole"],
        incomplete=tuple(contents["incomplete"]), used=contents["used"],
    )  # fmt: skip
    _check_rows(table, tables, len(shards))
    sources = contents["sources"]
    made_from = IndexedState(
        recipe_digest=sources["recipe_digest"], manifest=sources["manifest"],
        left_out={name: tuple(values) for name, values in sources["left_out"].items()},
        lost=tuple(sources["lost"]), relabels=sources["relabels"],
        class_names=None if sources["class_names"] is None else tuple(sources["class_names"]),
        dataset=sources["dataset"],
    )  # fmt: skip
    return Catalogue(shards, table), made_from


def _check_rows(table: Table, tables: Mapping[str, NDArray[Any]], shards: int) -> None:
    """Raise ValueError if a row refers to a shard, block, frame or image that does not exist."""
    columns, rows = table.columns, len(table.ids)
    modalities = _modalities(columns)
    wanted = {**COLUMNS, **{n: d for m in modalities for n, d in columns_of(m).items()}}
    for name, dtype in wanted.items():
        if columns[name].shape != (rows,) or columns[name].dtype != np.dtype(dtype):
            raise ValueError(f"column {name} is not {rows} of {dtype}")
    lengths = {len(tables[f"shards/{n}"]) for n in ("size", "mtime_ns", "frames", *modalities)}
    whole, used = table.complete.astype(np.int64), table.used
    blocks = len(table.metas.blocks)
    if lengths - {shards} or not 0 <= used <= rows or len(table.metas.crc32) != blocks:
        raise ValueError("its tables differ in length")
    if not rows:
        return
    shard = columns["shard"]
    if int(shard.max()) >= shards or int(columns["meta_block"].max()) >= blocks:
        raise ValueError("a row is of no shard, or has no meta")
    if len(whole) and (whole.max() >= used or np.any(whole + columns["parts"][whole] > used)):
        raise ValueError("a video lies outside the rows")
    spans = [("frame_first", "frames", "frames")]
    spans += [(f"{m}/first", f"{m}/count", m) for m in modalities]
    for first, count, limit in spans:
        most = tables[f"shards/{limit}"][shard]
        if np.any(columns[first] > most) or np.any(columns[count] > most - columns[first]):
            raise ValueError(f"{first} of a row lies outside its shard")


def _array(content: memoryview, name: str, row: Mapping[str, Any]) -> NDArray[Any]:
    if row["dtype"] not in _DTYPES or not all(isinstance(n, int) and n >= 0 for n in row["shape"]):
        raise ValueError(f"{name} has an impossible type or shape")
    dtype = np.dtype(row["dtype"])
    block = _slice(content, row["at"], math.prod(row["shape"]) * dtype.itemsize)
    if name != _LAZY and zlib.crc32(block) != row["crc32"]:
        raise ValueError(f"{name} does not have its CRC")
    return np.frombuffer(block, dtype).reshape(row["shape"])


def _slice(content: memoryview, at: int, count: int) -> memoryview:
    if not (isinstance(at, int) and 0 <= at <= len(content) and 0 <= count <= len(content) - at):
        raise ValueError(f"{count} bytes at {at} lie outside the file")
    return content[at : at + count]


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
