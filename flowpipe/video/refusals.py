"""Open container -> a DecodeError where it holds no video to decode: stills, encryption."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from flowpipe.errors import DecodeError
from flowpipe.remote import is_url, open_place

PICTURE_FORMATS = ("gif", "apng", "ico", "mjpeg", "jpegxl_anim", "fits")
"""Formats of one or many pictures, beside all whose names end in ``_pipe``."""
STILL_BRANDS = ("avif", "heic", "heix", "mif1")
"""Major brands of ISO files that hold a picture; a sequence has another one."""
ENCRYPTED_TAGS = ("encv", "drmi")
"""Sample entries of encrypted video: Common Encryption and FairPlay."""
ENCRYPTED_BOXES = (b"senc", b"encv", b"drmi")
CHILDREN_AT = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"), 0),
    b"stsd": 8,
}
"""Boxes that hold boxes, and the bytes of their own before these."""
MOST_BOXES = 4096
"""Boxes looked at; those of encryption come with the track or with its first fragment."""


def refuse_still(
    container: InputContainer, stream: VideoStream, path: str, reopen: Callable[[], InputContainer]
) -> None:
    """Raise DecodeError ``still_picture`` if the file is one picture.

    A video of one frame in a video container is a video. An animated WebP that FFmpeg cannot decode
    is refused as ``unsupported``.
    """
    kind = container.format.name
    if "webp" in kind and _is_animated_webp(path):
        if stream.codec_context is None or not stream.codec_context.width:
            raise DecodeError(
                f"{path} is an animated WebP, which this FFmpeg cannot decode; convert it to "
                "another format, such as MP4",
                reason="unsupported",
            )
        return
    brand = container.metadata.get("major_brand", "")
    if brand.strip() in STILL_BRANDS:
        still = stream.frames <= 1
    elif kind in PICTURE_FORMATS or kind.endswith("_pipe"):
        still = not _has_two_packets(reopen)
    else:
        return
    if still:
        raise DecodeError(
            f"{path} is a still picture ({brand or kind}), not a video; remove it from the list",
            reason="still_picture",
        )


def refuse_encrypted(container: InputContainer, stream: VideoStream, path: str) -> None:
    """Raise DecodeError ``encrypted`` if the stream's pictures are encrypted."""
    context = stream.codec_context
    tag = str(getattr(context, "codec_tag", "")) if context is not None else ""
    found = tag in ENCRYPTED_TAGS or "enc_key_id" in stream.metadata
    if not found and container.format.name.startswith("mov") and not is_url(path):
        with open_place(path) as file:
            found = _encryption_boxes(file, stream.id)
    if found:
        raise DecodeError(
            f"{path} is encrypted (DRM), and flowpipe has no keys; decrypt it first, or fetch a "
            "file that is not encrypted",
            reason="encrypted",
        )


def _has_two_packets(reopen: Callable[[], InputContainer]) -> bool:
    count = 0
    with reopen() as container:
        try:
            for packet in container.demux(video=0):
                count += bool(packet.size)
                if count > 1:
                    return True
        except (av.error.FFmpegError, OSError):
            return False
    return False


def _is_animated_webp(path: str) -> bool:
    """Read the animation flag of the extended header (RFC 9649, 2.7)."""
    with open_place(path) as file:
        head = file.read(21)
    return head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)


def _encryption_boxes(file: BinaryIO, track_id: int) -> bool:
    """Tell whether an ISO file has boxes of Common Encryption for this track."""
    track = 0
    for kind, body in _boxes(file, 0, file.seek(0, os.SEEK_END), Counter()):
        if kind in (b"tkhd", b"tfhd"):
            file.seek(body)
            head = file.read(24)
            at = 20 if kind == b"tkhd" and head[:1] == b"\1" else 12 if kind == b"tkhd" else 4
            track = int.from_bytes(head[at : at + 4], "big")
        elif kind in ENCRYPTED_BOXES and track == track_id:
            return True
    return False


def _boxes(file: BinaryIO, start: int, end: int, seen: Counter[str]) -> Iterator[tuple[bytes, int]]:
    """Types of the boxes of an ISO file and where their content begins, parents before children."""
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
        yield kind, body
        if kind in CHILDREN_AT:
            yield from _boxes(file, body + CHILDREN_AT[kind], stop, seen)
        start += length
