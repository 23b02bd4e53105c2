"""One shard of an open store: its descriptor, its mapped tables, reads that name what is wrong."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES
from flowpipe.store import layout
from flowpipe.store.index import ShardFacts


class Place(NamedTuple):
    """Where consecutive images of a shard are, for code that is not Python."""

    fd: int
    bytes_at: int
    """Position in the file that the offsets count from."""
    offsets: int
    """Address of their offsets, uint64, and of that of the image after them."""
    crcs: int
    """Address of their CRCs, uint32."""


class OpenShard:
    """Reads of one shard by position.

    No seek, no lock, nothing shared that changes: safe in threads and after fork. The descriptor
    closes when the last user lets go of the object.
    """

    __slots__ = ("_address", "_bytes_at", "_fd", "_map", "_table_at", "facts", "path")

    def __init__(self, path: Path, facts: ShardFacts) -> None:
        self.path, self.facts, self._fd = path, facts, -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            advice = (
                "; raise the limit with `ulimit -n`" if error.errno == 24 else
                "; was it removed after the store was opened?"
            )  # fmt: skip
            raise FormatError(f"cannot open {path}: {error.strerror}{advice}") from error
        found = os.fstat(self._fd)
        if (found.st_size, found.st_mtime_ns) != (facts.size, facts.mtime_ns):
            raise FormatError(
                f"{path} was replaced after the store was opened: open the store again"
            )
        low, high = facts.size, 0
        for stream in facts.streams.values():
            if stream["images"]:
                for name, step in ((layout.OFFSET, 8), (layout.CRC, 4)):
                    at = stream["at"][name]
                    low, high = min(low, at), max(high, at + step * (stream["images"] + 1))
        low -= low % mmap.ALLOCATIONGRANULARITY
        high = min(high, facts.size)
        self._map = (
            mmap.mmap(self._fd, high - low, mmap.MAP_SHARED, mmap.PROT_READ, offset=low)
            if high > low else None
        )  # fmt: skip
        self._address = (
            np.frombuffer(self._map, np.uint8).__array_interface__["data"][0] if self._map else 0
        )
        self._bytes_at = {m: s["at"][layout.BYTES] for m, s in facts.streams.items()}
        self._table_at = {
            m: (s["at"][layout.OFFSET] - low, s["at"][layout.CRC] - low)
            for m, s in facts.streams.items()
        }

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def payloads(self, modality: str, first: int, count: int, check: bool) -> list[memoryview]:
        """Bytes of `count` images from number `first` of the shard on, in one read."""
        assert self._map is not None
        offset_at, crc_at = self._table_at[modality]
        offsets = struct.unpack_from(f"<{count + 1}Q", self._map, offset_at + 8 * first)
        start, size = offsets[0], offsets[-1] - offsets[0]
        if not 0 < size <= self.facts.size:
            raise layout.broken("S16", f"{modality} offsets in {self.path} are damaged")
        block = memoryview(self.read(self._bytes_at[modality] + start, size))
        result = [block[a - start : b - start] for a, b in zip(offsets, offsets[1:], strict=False)]
        if check:
            wanted = struct.unpack_from(f"<{count}I", self._map, crc_at + 4 * first)
            for k, (payload, crc) in enumerate(zip(result, wanted, strict=True)):
                if zlib.crc32(payload) != crc:
                    raise layout.broken(
                        "S17", f"image {first + k} of {modality} in {self.path} does not have its "
                        "CRC; run `flowpipe verify --repair`",
                    )  # fmt: skip
        return result

    def place(self, modality: str, first: int) -> Place:
        """Where the images of a modality are from number `first` of the shard on."""
        offset_at, crc_at = self._table_at[modality]
        return Place(
            self._fd, self._bytes_at[modality], self._address + offset_at + 8 * first,
            self._address + crc_at + 4 * first,
        )  # fmt: skip

    def column(self, modality: str, name: str, first: int, count: int) -> NDArray[np.generic]:
        """Values of a per image table."""
        column = next(c for c in MODALITIES[modality].columns if c.name == name)
        dtype = np.dtype((column.dtype, column.shape))
        at = self.facts.streams[modality]["at"][name]
        content = self.read(at + first * dtype.itemsize, count * dtype.itemsize)
        return np.frombuffer(content, column.dtype).reshape(count, *column.shape)

    def pts_s(self, first: int, count: int) -> NDArray[np.float64]:
        """Timestamps of frames."""
        return np.frombuffer(self.read(self.facts.pts_at + 8 * first, 8 * count), "<f8")

    def read(self, at: int, count: int) -> bytes:
        """`count` bytes of the file from position `at` on."""
        block = os.pread(self._fd, count, at)
        if len(block) == count:
            return block
        blocks, have = [block], len(block)
        while have < count:  # the kernel hands out at most 2 GB at once
            block = os.pread(self._fd, count - have, at + have)
            if not block:
                raise FormatError(
                    f"{self.path} ends {count - have} bytes early; run `flowpipe verify --repair`"
                )
            blocks.append(block)
            have += len(block)
        return b"".join(blocks)
