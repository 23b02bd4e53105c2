"""Tables <-> HDF5 shard file: create at exact size, seal, read back.

The space of the payloads is reserved here; the caller copies their bytes into it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
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
    """Columns `layout.ENTRY_COLUMNS`, one value per entry."""
    columns: Mapping[str, NDArray[Any]]
    """Columns of the modality, one value per image."""
    at: Mapping[str, int] = field(default_factory=dict)
    """Position in the file of each table and of the payloads (``bytes``), bytes."""


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
        _text(videos, layout.VIDEO_ID, [e.video_id for e in entries])
        _text(videos, layout.STATUS, [e.status for e in entries])
        _text(videos, layout.META, [e.meta for e in entries])
        for name, dtype in layout.VIDEO_COLUMNS.items():
            videos[name] = np.array([getattr(e, name) for e in entries], dtype)
        file.create_group(layout.FRAMES)[layout.PTS] = shard.pts_s.astype("<f8")
        streams = file.create_group(layout.STREAMS)
        for modality, stream in shard.streams.items():
            group = streams.create_group(modality)
            row = MODALITIES[modality]
            group.attrs[layout.ATTR_CODEC] = layout.to_json(stream.codec)
            group.attrs[layout.ATTR_QUANTISER] = layout.to_json(stream.quantiser)
            group.attrs[layout.ATTR_CHANNELS] = row.channels
            group.attrs[layout.ATTR_CONTEXT] = row.context
            group.attrs[layout.ATTR_ALIGNMENT] = layout.alignment(modality)
            for name, dtype in layout.ENTRY_COLUMNS.items():
                group[name] = stream.entry_columns[name].astype(dtype)
            group[layout.OFFSET] = stream.offset.astype("<u8")
            group[layout.CRC] = stream.crc32.astype("<u4")
            for column in row.columns:
                group[column.name] = stream.columns[column.name].astype(column.dtype)
        # Payloads come last, so that the tables lie together at the beginning of the file.
        for modality, stream in shard.streams.items():
            _reserve(streams[modality], int(stream.offset[-1]))
        file.flush()
        return {name: _position(streams[name][layout.BYTES]) for name in shard.streams}


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
        if wanted > _MOST_TABLE_BYTES and name.rpartition("/")[2] != layout.BYTES:
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
    ids = _read_text(videos, layout.VIDEO_ID)
    statuses, metas = _read_text(videos, layout.STATUS), _read_text(videos, layout.META)
    columns = {n: _column(videos, n, d, len(ids)) for n, d in layout.VIDEO_COLUMNS.items()}
    if len(statuses) != len(ids) or len(metas) != len(ids):
        raise broken_clause("S10", f"{path.name}: the columns of /videos differ in length")
    pts = file[layout.FRAMES][layout.PTS]
    for modality in file[layout.STREAMS]:
        if modality in MODALITIES:  # a later minor version may bring more
            streams[modality] = _read_stream(file[layout.STREAMS][modality], modality, len(ids))
    entries = tuple(
        Entry(
            ids[v], part, parts, status=statuses[v], frames=frames, frame_first=frame_first,
            images={m: int(s.entry_columns[layout.COUNT][v]) for m, s in streams.items()},
            first={m: int(s.entry_columns[layout.FIRST][v]) for m, s in streams.items()},
            size={
                m: (int(s.entry_columns[layout.HEIGHT][v]), int(s.entry_columns[layout.WIDTH][v]))
                for m, s in streams.items()
            },
            meta=metas[v],
        )
        for v, (part, parts, frame_first, frames) in enumerate(
            zip(*(columns[name].tolist() for name in layout.VIDEO_COLUMNS), strict=True)
        )
    )  # fmt: skip
    pts_s = _column(file[layout.FRAMES], layout.PTS, "<f8", pts.shape[0])
    return Shard(
        path=path, attrs=attrs, entries=entries, pts_s=pts_s, pts_at=_position(pts), streams=streams
    )


def _read_stream(group: h5py.Group, modality: str, videos: int) -> ShardStream:
    count = group[layout.CRC].shape[0]
    extra = [column.name for column in MODALITIES[modality].columns]
    places = (layout.BYTES, layout.OFFSET, layout.CRC, *extra)
    return ShardStream(
        codec=strict.parse_json(_attribute(group, layout.ATTR_CODEC, "S15"), f"{modality} codec"),
        quantiser=strict.parse_json(
            _attribute(group, layout.ATTR_QUANTISER, "S15"), f"{modality} quantiser"
        ),
        offset=_column(group, layout.OFFSET, "<u8", count + 1),
        crc32=_column(group, layout.CRC, "<u4", count),
        entry_columns={n: _column(group, n, d, videos) for n, d in layout.ENTRY_COLUMNS.items()},
        columns={
            c.name: _column(group, c.name, c.dtype, count, c.shape)
            for c in MODALITIES[modality].columns
        },
        at={name: _position(group[name]) for name in places},
    )


def _column(
    group: h5py.Group, name: str, dtype: str, count: int, shape: tuple[int, ...] = ()
) -> NDArray[Any]:
    table = group[name]
    if table.dtype != np.dtype(dtype) or table.shape != (count, *shape) or table.chunks is not None:
        raise broken_clause(
            "S09",
            f"{table.name} must be contiguous {dtype} {(count, *shape)}, got {table.dtype.str} "
            f"{table.shape}" + (f" in chunks of {table.chunks}" if table.chunks else ""),
        )
    return np.asarray(table[()])


def _text(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    group.create_dataset(name, data=list(values), dtype=_TEXT, shape=(len(values),))


def _read_text(group: h5py.Group, name: str) -> list[str]:
    try:
        return [value.decode("utf-8") for value in group[name][()].tolist()]
    except (UnicodeDecodeError, AttributeError) as error:
        raise broken_clause("S10", f"{group.name}/{name} is not UTF-8 text: {error}") from error


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
    h5py.h5d.create(group.id, layout.BYTES.encode(), h5py.h5t.STD_U8LE, space, creation)


def _position(table: h5py.Dataset) -> int:
    """Return the position of a contiguous dataset in its file, bytes; 0 for an empty one."""
    offset = table.id.get_offset()
    if offset is None:
        if table.size:
            raise broken_clause("S09", f"{table.name} is not contiguous")
        return 0
    return int(offset)
