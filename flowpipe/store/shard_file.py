"""Shard of an open store -> payloads and columns: bounded reads, compared with their CRCs."""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, storage_reason
from flowpipe.store import layout
from flowpipe.store.rows import ShardFacts
from flowpipe.words import count_noun

_TABLES = (layout.OFFSET, layout.CRC, layout.BYTES)
_OFFSET_BYTES, _CRC_BYTES, _PTS_BYTES = (
    table.row.itemsize for table in (layout.OFFSET, layout.CRC, layout.PTS)
)
_OFFSET_CODE, _CRC_CODE = (
    {"<u8": "Q", "<u4": "I"}[table.dtype] for table in (layout.OFFSET, layout.CRC)
)  # as struct names them; it is faster than NumPy for a few numbers


class PayloadLocation(NamedTuple):
    """Positions of consecutive images of a shard, for the compiled reader; bytes in the file."""

    fd: int
    """Descriptor of the file."""
    end: int
    """Size of the file."""
    bytes_at: int
    """Position that the offsets count from."""
    offsets_at: int
    """Position of count + 1 uint64 offsets."""
    crcs_at: int
    """Position of count uint32 CRCs."""


class OpenShard:
    """Shard whose bytes are read by position; each position is checked first.

    Reads use no seek, lock, mapped memory or mutable state. They are safe in threads, after a fork,
    and if the file is truncated. The descriptor is closed with the last reference to the object.

    Parameters
    ----------
    path : Path
        File of the shard.
    facts : ShardFacts
        Facts of the shard in the catalogue.

    Raises
    ------
    FormatError
        If the file cannot be opened, or was replaced after the store was opened.
    """

    __slots__ = ("_fd", "_size", "_streams", "facts", "path")

    def __init__(self, path: Path, facts: ShardFacts) -> None:
        self.path, self.facts, self._fd, self._size = path, facts, -1, facts.size
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            advice = (
                "; raise the limit with `ulimit -n`" if error.errno == errno.EMFILE else
                "; was it removed after the store was opened?"
            )  # fmt: skip
            raise _unread(f"{path} cannot be opened: {error.strerror}{advice}", error) from error
        try:
            found = os.fstat(self._fd)
        except OSError as error:
            raise _unread(f"{path} cannot be examined: {error.strerror}", error) from error
        if (found.st_size, found.st_mtime_ns) != (facts.size, facts.mtime_ns):
            raise FormatError(
                f"{path} was replaced after the store was opened: open the store again"
            )
        if not stat.S_ISREG(found.st_mode):
            raise layout.broken_clause("S07", f"{path} is not a regular file")
        # by modality: images, positions of offsets, CRCs and payloads
        self._streams = {
            modality: (stream["images"], *(stream["at"][table.name] for table in _TABLES))
            for modality, stream in facts.streams.items()
        }
        for modality, (images, offset_at, crc_at, bytes_at) in self._streams.items():
            self._check_range(f"{modality} offsets", offset_at, _OFFSET_BYTES * (images + 1))
            self._check_range(f"{modality} CRCs", crc_at, _CRC_BYTES * images)
            self._check_range(f"{modality} images", bytes_at, 0)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def payloads(self, modality: str, first: int, count: int, check: bool) -> list[memoryview]:
        """Read the payloads of consecutive images, in one read.

        Parameters
        ----------
        modality : str
            Stream to read.
        first, count : int
            Number of the first image in the shard, and number of images.
        check : bool
            Compare the CRC of each payload.

        Returns
        -------
        list of memoryview
            One image file each.

        Raises
        ------
        FormatError
            If the file cannot be read, was truncated or is damaged.
        """
        offset_at, crc_at, bytes_at = self._at(modality, first, count)
        offsets = self.read(offset_at, _OFFSET_BYTES * (count + 1))
        start, *ends = struct.unpack(f"<{count + 1}{_OFFSET_CODE}", offsets)
        size = ends[-1] - start
        if not 0 < size <= self._size or start > self._size:
            raise layout.broken_clause("S16", f"{modality} offsets in {self.path} are damaged")
        block = memoryview(self.read(bytes_at + start, size))
        result, low = [], 0
        for end in ends:
            high = end - start
            result.append(block[low:high])
            low = high
        if check:
            crcs = self.read(crc_at, _CRC_BYTES * count)
            wanted = struct.unpack(f"<{count}{_CRC_CODE}", crcs)
            for k, (payload, crc) in enumerate(zip(result, wanted, strict=True)):
                if zlib.crc32(payload) != crc:
                    raise layout.broken_clause(
                        "S17", f"image {first + k} of {modality} in {self.path} does not have its "
                        "CRC; run `flowpipe verify --repair`",
                    )  # fmt: skip
        return result

    def locate(self, modality: str, first: int, count: int) -> PayloadLocation:
        """Locate consecutive images in the file.

        Parameters
        ----------
        modality : str
            Stream to read.
        first, count : int
            Number of the first image in the shard, and number of images.

        Returns
        -------
        PayloadLocation
            Positions of payloads, offsets and CRCs.
        """
        offset_at, crc_at, bytes_at = self._at(modality, first, count)
        return PayloadLocation(self._fd, self.facts.size, bytes_at, offset_at, crc_at)

    def check_tables(self, modality: str, first: int, count: int, crc32: int) -> None:
        """Raise BrokenClauseError if offsets or CRCs of images do not have this CRC-32.

        Parameters
        ----------
        modality : str
            Stream to check.
        first, count : int
            Number of the first image in the shard, and number of images.
        crc32 : int
            CRC-32 of their offsets and CRCs.
        """
        offset_at, crc_at, _ = self._at(modality, first, count)
        found = zlib.crc32(
            self.read(crc_at, _CRC_BYTES * count),
            zlib.crc32(self.read(offset_at, _OFFSET_BYTES * (count + 1))),
        )
        self._compare(f"offsets or CRCs of {modality}", found, crc32)

    def column(
        self, modality: str, name: str, first: int, count: int, crc32: int
    ) -> NDArray[np.generic]:
        """Read values of a column and compare them with their CRC-32.

        Parameters
        ----------
        modality : str
            Stream of the column.
        name : str
            Name of the column.
        first, count : int
            Number of the first image in the shard, and number of images.
        crc32 : int
            CRC-32 of the values.

        Returns
        -------
        array (count, ...)
            One value per image.
        """
        table = next(t for t in layout.column_tables(modality) if t.name == name)
        size, at = table.row.itemsize, self.facts.streams[modality]["at"][name]
        content = self.read(at + first * size, count * size)
        self._compare(f"values of {modality}/{name}", zlib.crc32(content), crc32)
        return np.frombuffer(content, table.dtype).reshape(count, *table.shape)

    def pts_s(self, first: int, count: int, crc32: int) -> NDArray[np.float64]:
        """Read timestamps and compare them with their CRC-32.

        Parameters
        ----------
        first, count : int
            Number of the first frame in the shard, and number of frames.
        crc32 : int
            CRC-32 of the timestamps.

        Returns
        -------
        float64 (count,)
            Timestamps, seconds.
        """
        content = self.read(self.facts.pts_at + _PTS_BYTES * first, _PTS_BYTES * count)
        self._compare("timestamps", zlib.crc32(content), crc32)
        return np.frombuffer(content, layout.PTS.dtype)

    def _at(self, modality: str, first: int, count: int) -> tuple[int, int, int]:
        """Return the positions of offsets and CRCs of some images, and of all payloads."""
        images, offset_at, crc_at, bytes_at = self._streams[modality]
        if not 0 <= first <= images - count:
            raise layout.broken_clause(
                "S19", f"{self.path} has {count_noun(images, 'image')} of {modality}"
            )
        return offset_at + _OFFSET_BYTES * first, crc_at + _CRC_BYTES * first, bytes_at

    def _check_range(self, what: str, at: int, count: int) -> None:
        if not 0 <= at <= self._size - count:
            raise layout.broken_clause("S09", f"{what} of {self.path} lie outside the file")

    def _compare(self, what: str, found: int, wanted: int) -> None:
        if found != wanted:
            raise layout.broken_clause(
                "S08", f"{what} in {self.path} changed after the shard was sealed; run "
                "`flowpipe verify --repair`",
            )  # fmt: skip

    def read(self, at: int, count: int) -> bytes:
        """Read bytes of the file.

        Parameters
        ----------
        at, count : int
            Position and number of bytes.

        Returns
        -------
        bytes
            The bytes.

        Raises
        ------
        FormatError
            If the file ends before, or cannot be read.
        """
        if not 0 <= at <= self._size - count:
            self._check_range(count_noun(count, "byte"), at, count)
        try:
            block = os.pread(self._fd, count, at)
            while len(block) < count:  # the kernel hands out at most 2 GB at once
                more = os.pread(self._fd, count - len(block), at + len(block))
                if not more:
                    raise FormatError(
                        f"{self.path} ends {count_noun(count - len(block), 'byte')} early; "
                        "run `flowpipe verify --repair`"
                    )
                block += more
        except OSError as error:
            raise _unread(f"{self.path} cannot be read: {error.strerror}", error) from error
        return block


def _unread(message: str, error: OSError) -> FormatError:
    return FormatError(message, reason=storage_reason(error))
