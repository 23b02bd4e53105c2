"""ISO file (MP4, MOV) -> its boxes, parents before children."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

CHILDREN_AT = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"), 0),
    b"stsd": 8,
}
"""Boxes that hold boxes, and the length of their own fields, bytes."""
MOST_BOXES = 4096
"""Largest number of boxes read; the boxes of a track come before its samples or first fragment."""


def boxes_of(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes of a file.

    Parameters
    ----------
    file : binary file
        ISO file; its position changes.

    Yields
    ------
    kind : bytes
        Type of the box, four letters.
    start, end : int
        Positions of its content, bytes.
    """
    yield from boxes(file, 0, file.seek(0, os.SEEK_END))


def tracked_boxes(file: BinaryIO, track_id: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes that belong to one track, in its header and in its fragments.

    Parameters
    ----------
    file : binary file
        ISO file; its position changes.
    track_id : int
        Id of the track.

    Yields
    ------
    (kind, start, end)
        As `boxes_of`.
    """
    track = 0
    for kind, body, end in boxes_of(file):
        if kind in (b"tkhd", b"tfhd"):
            file.seek(body)
            head = file.read(24)
            at = 20 if kind == b"tkhd" and head[:1] == b"\1" else 12 if kind == b"tkhd" else 4
            track = int.from_bytes(head[at : at + 4], "big")
        elif track == track_id:
            yield kind, body, end


def boxes(
    file: BinaryIO, start: int, end: int, seen: Counter[str] | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes between two positions of a file, as `boxes_of` does.

    Parameters
    ----------
    file : binary file
        ISO file; its position changes.
    start, end : int
        Positions, bytes.
    seen : Counter, optional
        Counter of the boxes read so far; reading stops at `MOST_BOXES`.

    Yields
    ------
    (kind, start, end)
        As `boxes_of`.
    """
    seen = Counter() if seen is None else seen
    while start + 8 <= end and seen["boxes"] < MOST_BOXES:
        seen["boxes"] += 1
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        body = start + 8
        if length == 1 and len(head) == 16:
            length, body = struct.unpack(">Q", head[8:])[0], start + 16
        if length < body - start:  # 0 means up to the end
            length = end - start
        stop = min(end, start + length)
        yield kind, body, stop
        if kind in CHILDREN_AT:
            yield from boxes(file, body + CHILDREN_AT[kind], stop, seen)
        start += length
