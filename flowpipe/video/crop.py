"""Open file -> whether its container crops the pictures.

FFmpeg's libraries, and the tools that use them, decode uncropped pictures. These are stored, and a
note records the crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from flowpipe.video.boxes import boxes, tracked_boxes
from flowpipe.video.truncation import read_vint

SEGMENT, TRACKS, TRACK, VIDEO, CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675
PIXEL_CROP = (0x54AA, 0x54BB, 0x54CC, 0x54DD)
"""Matroska elements (RFC 9559, 5.1.4.1.28): pixels cropped at the bottom, top, left, right."""
MOST_ELEMENTS = 4096
ENTRY_BYTES = 78
"""Length of a VisualSampleEntry's fields before its boxes (ISO/IEC 14496-12, 12.1.3)."""


def is_cropped(file: BinaryIO, container: str, stream_id: int, position: int) -> bool:
    """Tell whether the container crops a video.

    Parameters
    ----------
    file : binary file
        Its position changes.
    container : str
        FFmpeg's first name of the format; only ``mov`` and ``matroska`` are checked.
    stream_id : int
        Track id in an ISO file.
    position : int
        Number of the video track among those of a Matroska file, from 0.

    Returns
    -------
    bool
        True if the container shows a part of the coded picture.
    """
    if container == "mov":
        return any(
            _is_smaller(file, clean, at)
            for kind, body, end in tracked_boxes(file, stream_id)
            if kind == b"stsd"
            for _, at, stop in boxes(file, body + 8, end)
            for inner, clean, _ in boxes(file, at + ENTRY_BYTES, stop)
            if inner == b"clap"
        )
    if container != "matroska":
        return False
    file.seek(0)
    tracks = list(_video_tracks(file))
    return position < len(tracks) and any(tracks[position])


def _is_smaller(file: BinaryIO, body: int, entry: int) -> bool:
    """Return whether a clean aperture is smaller than the sample entry's pictures."""
    file.seek(entry + 24)
    size = file.read(4)
    file.seek(body)
    clap = file.read(16)
    width, by, height, down = (int.from_bytes(clap[k : k + 4], "big") for k in (0, 4, 8, 12))
    whole_width, whole_height = (int.from_bytes(size[k : k + 2], "big") for k in (0, 2))
    return width < whole_width * by or height < whole_height * down


def _video_tracks(file: BinaryIO) -> Iterator[list[int]]:
    """Yield the cropped pixels of each video track."""
    for kind, body, end in _elements(file, 0, None):
        if kind != VIDEO:
            continue
        file.seek(body)
        values = []
        for inner, at, stop in _elements(file, body, end):
            if inner in PIXEL_CROP:
                file.seek(at)
                values.append(int.from_bytes(file.read(min(8, stop - at)), "big"))
        yield values


def _elements(file: BinaryIO, start: int, end: int | None) -> Iterator[tuple[int, int, int]]:
    """Yield the elements up to the first cluster, children of segment and tracks too."""
    for _ in range(MOST_ELEMENTS):
        if end is not None and start >= end:
            return
        file.seek(start)
        kind, length = read_vint(file, keep_marker=True), read_vint(file)
        body = file.tell()
        if kind is None or kind == CLUSTER or (length is None and kind != SEGMENT):
            return
        yield kind, body, body + (length or 0)
        start = body if kind in (SEGMENT, TRACKS, TRACK) else body + (length or 0)
