"""Path -> number of bytes missing at the end of a file, by its outermost structure.

Declared frame counts and durations are often wrong. The sizes of the outermost boxes are right,
because players rely on them, so they reveal an incomplete download.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from flowpipe.remote import open_path_or_url

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


def count_missing_bytes(path: str | os.PathLike[str]) -> int:
    """Count the bytes that a truncated file lacks.

    Parameters
    ----------
    path : path
        Video file or URL.

    Returns
    -------
    int
        Bytes that an MP4, Matroska, WebM, AVI or FLV file lacks; 0 for any other file.
    """
    with open_path_or_url(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(12)
        file.seek(0)
        if head[:4] == b"RIFF":
            return max(0, 8 + int.from_bytes(head[4:8], "little") - size)
        if head[:4] == _EBML.to_bytes(4, "big"):
            return max(0, _segment_end(file, size) - size)
        if head[:3] == b"FLV":
            return max(0, _tags_end(file, size) - size)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return max(0, _boxes_end(file, size) - size)
    return 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Return the end of the last box: 32-bit size, type, 64-bit size (ISO/IEC 14496-12, 4.2)."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 1:
            wide = file.read(8)
            length = struct.unpack(">Q", wide)[0] if len(wide) == 8 else 0
        if length < 8:  # 0 means up to the end of the file
            return size
        start += length
    return start


def _tags_end(file: BinaryIO, size: int) -> int:
    """Return the end of the last tag: header with its length, tags, each with its size (FLV 10.1,
    annex E)."""
    file.seek(5)
    start = max(9, int.from_bytes(file.read(4), "big")) + 4
    while start + 11 <= size:
        file.seek(start)
        start += 11 + int.from_bytes(file.read(4)[1:], "big") + 4
    return start


def _segment_end(file: BinaryIO, size: int) -> int:
    """Return the end of the Segment, after an EBML header; a size of all ones means unknown
    (RFC 8794)."""
    if read_vint(file, keep_marker=True) != _EBML:
        return size
    header = read_vint(file)
    if header is None:
        return size
    file.seek(header, os.SEEK_CUR)
    if read_vint(file, keep_marker=True) != _SEGMENT:
        return size
    length = read_vint(file)
    return size if length is None else file.tell() + length


def read_vint(file: BinaryIO, *, keep_marker: bool = False) -> int | None:
    """Read an EBML integer.

    Parameters
    ----------
    file : binary file
        File at the integer.
    keep_marker : bool
        Keep the marker bit, as ids do.

    Returns
    -------
    int or None
        The integer; None if it is truncated or all ones.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    if len(rest) < more:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value
    ones = (1 << (7 * (more + 1))) - 1
    value &= ones
    return None if value == ones else value
