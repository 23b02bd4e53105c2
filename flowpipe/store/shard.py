"""Tables <-> HDF5 shard file: create at exact size, seal, read back.

The space of the payloads is reserved here; the caller copies their bytes into it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.errors import errno_of, is_storage_failure
from flowpipe.modality import MODALITIES
from flowpipe.store import layout
from flowpipe.store.layout import Entry, broken_clause
from flowpipe.store.seal import compute_seal

_TEXT = h5py.string_dtype("utf-8")
# HDF5 1.10 reads this version, and its object headers have checksums.
_VERSIONS = ("v110", "v110")
_ALIGN_BYTES = 4096
_MOST_TABLE_BYTES = 1 << 30
"""Largest size of a table; the homographies of a day at 60 frames per second have 370 MB."""


@dataclass(frozen=True, kw_only=True)
class ShardStream:
    """Tables of one modality of a shard, and the positions of its payloads."""

    codec: dict[str, Any]
    quantiser: dict[str, Any]
    offset: NDArray[np.uint64]
    """Offsets from the start of the payloads, bytes, (N + 1,): image k is
    ``offset[k] .. offset[k + 1]``."""
    crc32: NDArray[np.uint32]
    """CRC-32 of each payload, (N,)."""
    entry_columns: Mapping[str, NDArray[Any]]
    """Tables `layout.ENTRY_TABLES` by name, one value per entry."""
    columns: Mapping[str, NDArray[Any]]
    """Tables `layout.column_tables` by name, one value per image."""
    at: Mapping[str, int] = field(default_factory=dict)
    """Position in the file of each table and of the payloads (``bytes``), bytes."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes `layout.stream_attributes` as the file has them; None for one that it lacks."""

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """Values of every table but the payloads, by name."""
        return {
            **self.entry_columns,
            **self.columns,
            layout.OFFSET.name: self.offset,
            layout.CRC.name: self.crc32,
        }


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Tables and attributes of a shard, without its payloads."""

    path: Path
    attrs: Mapping[str, str]
    """Root attributes."""
    entries: tuple[Entry, ...]
    pts_s: NDArray[np.float64]
    """Timestamps of all frames, seconds, (frames,)."""
    pts_at: int
    """Position of the timestamps in the file, bytes."""
    streams: Mapping[str, ShardStream]
    """Streams by modality."""

    @property
    def backend(self) -> dict[str, Any]:
        """Software that computed the images, with versions; FormatError if it is no JSON object."""
        name = f"{self.path.name}: the attribute {layout.ATTR_BACKEND}"
        values: dict[str, Any] = strict.parse_json(self.attrs[layout.ATTR_BACKEND], name)
        return values


def create_shard(path: Path, shard: Shard) -> dict[str, int]:
    """Write the tables and reserve the payloads' space.

    Parameters
    ----------
    path : Path
        File to write.
    shard : Shard
        Tables of the shard.

    Returns
    -------
    dict
        Position in the file of each modality's payloads.
    """
    entries = shard.entries
    with h5py.File(
        path, "w-", libver=_VERSIONS, locking=False,
        alignment_threshold=_ALIGN_BYTES, alignment_interval=_ALIGN_BYTES,
    ) as file:  # fmt: skip
        for name in layout.ROOT_ATTRS:
            file.attrs[name] = shard.attrs[name]
        videos = file.create_group(layout.VIDEOS)
        for table in layout.VIDEO_TABLES:
            _write(videos, table, [getattr(e, table.name) for e in entries])
        _write(file.create_group(layout.FRAMES), layout.PTS, shard.pts_s)
        streams = file.create_group(layout.STREAMS)
        for modality, stream in shard.streams.items():
            group = streams.create_group(modality)
            attributes = layout.stream_attributes(modality, stream.codec, stream.quantiser)
            for name, value in attributes.items():
                group.attrs[name] = value
            for table in (*layout.ENTRY_TABLES, *layout.image_tables(modality)):
                _write(group, table, stream.tables[table.name])
        # Payloads come last, so that the tables lie together at the beginning of the file.
        for modality, stream in shard.streams.items():
            _reserve(streams[modality], int(stream.offset[-1]))
        file.flush()
        return {name: _position(streams[name][layout.BYTES.name]) for name in shard.streams}


def seal_shard(path: Path) -> str:
    """Compute the seal of a shard and store it in the file.

    Parameters
    ----------
    path : Path
        File of the shard.

    Returns
    -------
    str
        The seal.
    """
    with h5py.File(path, "r+", libver=_VERSIONS, locking=False) as file:
        seal = compute_seal(file)
        file.attrs.modify(layout.ATTR_SEAL, seal)
    return seal


@contextmanager
def open_shard(path: Path) -> Iterator[h5py.File]:
    """Open a shard for reading, without locks, because a published shard never changes.

    Parameters
    ----------
    path : Path
        File of the shard.

    Yields
    ------
    h5py.File
        The open file.

    Raises
    ------
    BrokenClauseError
        If it cannot be opened as HDF5.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block for ever
            raise broken_clause("S07", f"{path.name} is not a regular file")
        file = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unread("S07", path, "cannot be opened as HDF5", error) from error
    try:
        yield file
    finally:
        file.close()


def read_shard(path: Path, *, seal: bool = True) -> Shard:
    """Read every table of a shard.

    Parameters
    ----------
    path : Path
        File of the shard.
    seal : bool
        Compare the seal too, which finds any changed byte of the tables.

    Returns
    -------
    Shard
        Its tables.

    Raises
    ------
    BrokenClauseError
        If the file breaks FORMAT.md or, with `seal`, was changed; with the reason ``io`` if the
        storage failed. No file content raises another error.
    """
    with open_shard(path) as file:
        try:
            check_storage(file, path)
            attrs = {name: _attribute(file, name) for name in layout.ROOT_ATTRS}
            if attrs[layout.ATTR_FORMAT] != layout.FORMAT:
                raise broken_clause(
                    "S07", f"{path.name} is no {layout.FORMAT}: {attrs[layout.ATTR_FORMAT]}"
                )
            layout.check_version(attrs[layout.ATTR_VERSION], path)
            if seal and attrs[layout.ATTR_SEAL] != compute_seal(file):
                raise broken_clause(
                    "S08",
                    f"{path.name}: the tables or attributes changed after the shard was sealed",
                )
            return _read(path, file, attrs)
        except layout.BrokenClauseError:
            raise
        except Exception as error:  # damage makes HDF5, NumPy and json raise nearly anything
            raise _unread("S09", path, "cannot be read", error) from error


def _unread(clause: str, path: Path, what: str, error: Exception) -> layout.BrokenClauseError:
    """Return the error for a shard that HDF5 cannot read; see `layout.broken_clause`."""
    if isinstance(error, OSError) and is_storage_failure(error):
        words = (
            f"{path.name} cannot be read: {os.strerror(errno_of(error) or 0)}; the storage failed"
        )
        return broken_clause(clause, f"{words}, and the file may be good: try again", error)
    return broken_clause(clause, f"{path.name} {what}: {error!r}")


def check_storage(file: h5py.File, path: Path) -> None:
    """Raise BrokenClauseError unless every dataset lies in the file itself, contiguous and bounded.

    External storage, virtual datasets and external links would make HDF5 read other files. A shape
    larger than the file would make it allocate without bound. No values are read.

    Parameters
    ----------
    file : h5py.File
        Open shard.
    path : Path
        Its file.
    """
    size = path.stat().st_size

    def check(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        creation = node.id.get_create_plist()
        if creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_external_count():
            raise broken_clause(
                "S09", f"{path.name}: /{name} is not stored contiguously in the file"
            )
        wanted, at = node.size * node.id.get_type().get_size(), node.id.get_offset()
        if wanted > size or (at is not None and not 0 <= at <= size - wanted):
            raise broken_clause("S09", f"{path.name}: /{name} lies outside the file")
        if wanted > _MOST_TABLE_BYTES and name.rpartition("/")[2] != layout.BYTES.name:
            raise broken_clause(
                "S09", f"{path.name}: /{name} has {wanted} bytes, too many for a table"
            )

    def check_link(name: str, link: Any) -> None:
        if not isinstance(link, h5py.HardLink):
            raise broken_clause("S09", f"{path.name}: /{name} is a link to elsewhere")

    file.visititems_links(check_link)
    file.visititems(check)


def _read(path: Path, file: h5py.File, attrs: Mapping[str, str]) -> Shard:
    videos, streams = file[layout.VIDEOS], {}
    texts = [table for table in layout.VIDEO_TABLES if table.dtype == layout.TEXT]
    columns: dict[str, list[Any]] = {table.name: _read_text(videos, table) for table in texts}
    count = len(columns[layout.VIDEO_ID.name])
    for table in layout.VIDEO_TABLES:
        if table not in texts:
            columns[table.name] = _read_values(videos, table, count).tolist()
    if any(len(values) != count for values in columns.values()):
        raise broken_clause("S10", f"{path.name}: the columns of /videos differ in length")
    pts = file[layout.FRAMES][layout.PTS.name]
    for modality in file[layout.STREAMS]:
        if modality in MODALITIES:  # a later minor version may bring more
            streams[modality] = _read_stream(file[layout.STREAMS][modality], modality, count)
    spans = {
        name: list(
            zip(*(s.entry_columns[t.name].tolist() for t in layout.ENTRY_TABLES), strict=True)
        )
        for name, s in streams.items()
    }
    entries = tuple(
        Entry(
            **dict(zip(columns, values, strict=True)),
            first={name: rows[v][0] for name, rows in spans.items()},
            images={name: rows[v][1] for name, rows in spans.items()},
            size={name: rows[v][2:] for name, rows in spans.items()},
        )
        for v, values in enumerate(zip(*columns.values(), strict=True))
    )
    pts_s = _read_values(file[layout.FRAMES], layout.PTS, pts.shape[0])
    return Shard(
        path=path, attrs=attrs, entries=entries, pts_s=pts_s, pts_at=_position(pts), streams=streams
    )


def _read_stream(group: h5py.Group, modality: str, videos: int) -> ShardStream:
    images = group[layout.CRC.name].shape[0]
    counts = {"V": videos, "N": images, "N+1": images + 1}
    of_images = layout.image_tables(modality)
    _check_table(group, layout.BYTES, group[layout.BYTES.name].size)
    values = {
        table.name: _read_values(group, table, counts[table.rows])
        for table in (*of_images, *layout.ENTRY_TABLES)
    }
    codec, quantiser = (
        strict.parse_json(_attribute(group, name, "S15"), f"{modality} {name}")
        for name in (layout.ATTR_CODEC, layout.ATTR_QUANTISER)
    )
    return ShardStream(
        codec=codec,
        quantiser=quantiser,
        offset=values[layout.OFFSET.name],
        crc32=values[layout.CRC.name],
        entry_columns={table.name: values[table.name] for table in layout.ENTRY_TABLES},
        columns={table.name: values[table.name] for table in layout.column_tables(modality)},
        at={table.name: _position(group[table.name]) for table in (layout.BYTES, *of_images)},
        attrs={n: group.attrs.get(n) for n in layout.stream_attributes(modality, codec, quantiser)},
    )


def _check_table(group: h5py.Group, table: layout.Table, count: int) -> None:
    """Raise BrokenClauseError unless a dataset is as declared, with this number of rows."""
    found, shape = group[table.name], (count, *table.shape)
    if found.dtype != np.dtype(table.dtype) or found.shape != shape or found.chunks is not None:
        raise broken_clause(
            "S09",
            f"{found.name} must be contiguous {table.dtype} {shape}, got {found.dtype.str} "
            f"{found.shape}" + (f" in chunks of {found.chunks}" if found.chunks else ""),
        )


def _read_values(group: h5py.Group, table: layout.Table, count: int) -> NDArray[Any]:
    _check_table(group, table, count)
    return np.asarray(group[table.name][()])


def _read_text(group: h5py.Group, table: layout.Table) -> list[str]:
    try:
        return [value.decode("utf-8") for value in group[table.name][()].tolist()]
    except (UnicodeDecodeError, AttributeError) as error:
        raise broken_clause(
            "S10", f"{group.name}/{table.name} is not UTF-8 text: {error}"
        ) from error


def _write(group: h5py.Group, table: layout.Table, values: Any) -> None:
    if table.dtype == layout.TEXT:
        group.create_dataset(table.name, data=list(values), dtype=_TEXT, shape=(len(values),))
    else:
        group[table.name] = np.asarray(values, table.dtype)


def _attribute(node: h5py.Group, name: str, clause: str = "S07") -> str:
    value = node.attrs.get(name)
    if not isinstance(value, str):
        raise broken_clause(clause, f"attribute {name} of {node.name} must be text, got {value!r}")
    return value


def _reserve(group: h5py.Group, count: int) -> None:
    """Create a contiguous dataset whose space is allocated now and never filled by HDF5."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((count,))
    h5py.h5d.create(group.id, layout.BYTES.name.encode(), h5py.h5t.STD_U8LE, space, creation)


def _position(table: h5py.Dataset) -> int:
    """Return the position of a contiguous dataset in its file, bytes; 0 for an empty one."""
    offset = table.id.get_offset()
    if offset is None:
        if table.size:
            raise broken_clause("S09", f"{table.name} is not contiguous")
        return 0
    return int(offset)
