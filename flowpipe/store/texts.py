"""Strings -> one array of bytes; long ones are compressed in blocks with a CRC each."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from flowpipe.store import layout
from flowpipe.strict import MOST_BYTES

METAS_IN_BLOCK = 64


class PackedStrings:
    """Many strings in one array of bytes.

    Parameters
    ----------
    blob : uint8 (bytes,)
        UTF-8 of all strings, one after another.
    offset : uint64 (n + 1,)
        Start of each string in `blob`, and the end of the last.
    """

    def __init__(self, blob: NDArray[np.uint8], offset: NDArray[np.uint64]) -> None:
        self.blob, self.offset = blob, offset

    @classmethod
    def pack(cls, encoded: Sequence[bytes]) -> PackedStrings:
        """Concatenate strings.

        Parameters
        ----------
        encoded : sequence of bytes
            Strings as UTF-8.

        Returns
        -------
        PackedStrings
            The strings, one after the other.
        """
        offset = np.zeros(len(encoded) + 1, "<u8")
        np.cumsum([len(e) for e in encoded], out=offset[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offset)

    def raw(self, row: int) -> bytes:
        """Return one string.

        Parameters
        ----------
        row : int
            Number of the string.

        Returns
        -------
        bytes
            The string as UTF-8.
        """
        start, stop = self.offset[row : row + 2].tolist()
        return self.blob[start:stop].tobytes()

    def unpack_all(self) -> list[bytes]:
        """Return every string as UTF-8."""
        content, offset = self.blob.tobytes(), self.offset.tolist()
        return [content[a:b] for a, b in zip(offset, offset[1:], strict=False)]

    def bisect(self, wanted: bytes, low: int, high: int) -> int:
        """Find the place of a string among sorted ones.

        Parameters
        ----------
        wanted : bytes
            String as UTF-8.
        low, high : int
            First row to search, and row after the last.

        Returns
        -------
        int
            The first row whose string is not smaller; `high` if there is none.
        """
        while low < high:
            middle = (low + high) // 2
            if self.raw(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def __getitem__(self, row: int) -> str:
        return self.raw(row).decode("utf-8")

    def __len__(self) -> int:
        return len(self.offset) - 1


@dataclass(frozen=True)
class PackedMeta:
    """Meta objects of all entries as JSON, compressed in blocks of neighbours."""

    blocks: PackedStrings
    """Compressed blocks."""
    crc32: NDArray[np.uint32]
    """CRC-32 of each block, compared when it is read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_unpacked", lru_cache(maxsize=64)(self._unpack))

    def get(self, block: int, slot: int) -> str:
        """Return one text.

        Parameters
        ----------
        block, slot : int
            Number of the block, and of the text in it.

        Returns
        -------
        str
            The text.

        Raises
        ------
        BrokenClauseError
            If the block is damaged.
        """
        try:
            texts: list[bytes] = self._unpacked(block)  # type: ignore[attr-defined]
            return texts[slot].decode("utf-8")
        except (zlib.error, ValueError, IndexError) as error:
            raise _damaged_error() from error

    def _unpack(self, block: int) -> list[bytes]:
        packed = self.blocks.raw(block)
        if zlib.crc32(packed) != int(self.crc32[block]):
            raise _damaged_error()
        content = zlib.decompressobj().decompress(packed, MOST_BYTES)
        count = int.from_bytes(content[:4], "little")
        ends = np.frombuffer(content, "<u4", count, 4).tolist()
        begin = 4 + 4 * count
        return [content[begin + a : begin + b] for a, b in zip([0, *ends], ends, strict=False)]


def pack_metas(metas: Sequence[str]) -> list[bytes]:
    """Compress texts into blocks of `METAS_IN_BLOCK`.

    Parameters
    ----------
    metas : sequence of str
        Texts.

    Returns
    -------
    list of bytes
        Compressed blocks.
    """
    blocks = []
    for start in range(0, len(metas), METAS_IN_BLOCK):
        texts = [meta.encode("utf-8") for meta in metas[start : start + METAS_IN_BLOCK]]
        ends = np.cumsum([len(text) for text in texts]).astype("<u4")
        head = len(texts).to_bytes(4, "little") + ends.tobytes()
        blocks.append(zlib.compress(head + b"".join(texts), 1))
    return blocks


def _damaged_error() -> layout.BrokenClauseError:
    return layout.broken_clause(
        "S06", f"{layout.INDEX_FILE} is damaged: delete it and open the store again"
    )
