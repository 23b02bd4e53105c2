"""Open container -> DecodeError if it is a still picture or encrypted."""

from __future__ import annotations

from collections.abc import Callable

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from flowpipe.errors import DecodeError
from flowpipe.remote import is_url, open_path_or_url
from flowpipe.video.encryption import ENCRYPTED_TAGS, is_encrypted

PICTURE_FORMATS = ("gif", "apng", "ico", "mjpeg", "jpegxl_anim", "fits")
"""Formats of one or many pictures, in addition to all whose names end in ``_pipe``."""
STILL_BRANDS = ("avif", "heic", "heix", "mif1")
"""Major brands of ISO files with a still picture; sequences have other brands."""


def refuse_still(
    container: InputContainer, stream: VideoStream, path: str, reopen: Callable[[], InputContainer]
) -> None:
    """Raise DecodeError ``still_picture`` if the file is a still picture.

    A video of one frame in a video container is a video. An animated WebP that FFmpeg cannot decode
    raises ``unsupported``.

    Parameters
    ----------
    container : InputContainer
        Open file.
    stream : VideoStream
        Chosen stream.
    path : str
        Path of the file.
    reopen : callable
        Opens the file again.
    """
    kind = container.format.name
    if "webp" in kind and is_animated_webp(_head(path)):
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
    """Raise DecodeError ``encrypted`` if the stream's pictures are encrypted.

    Parameters
    ----------
    container : InputContainer
        Open file.
    stream : VideoStream
        Chosen stream.
    path : str
        Path of the file.
    """
    context = stream.codec_context
    tag = str(getattr(context, "codec_tag", "")) if context is not None else ""
    found = tag in ENCRYPTED_TAGS or "enc_key_id" in stream.metadata
    if not found and not is_url(path):
        with open_path_or_url(path) as file:
            found = is_encrypted(file, container.format.name.partition(",")[0], stream.id)
    if found:
        raise encryption_error(path)


def encryption_error(path: str) -> DecodeError:
    """Return the error of an encrypted file.

    Parameters
    ----------
    path : str
        Path of the file, for the message.

    Returns
    -------
    DecodeError
        ``encrypted``.
    """
    return DecodeError(
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


def is_animated_webp(head: bytes) -> bool:
    """Return whether a file is an animated WebP.

    Reads the animation flag of the extended header (RFC 9649, 2.7).

    Parameters
    ----------
    head : bytes
        First 21 bytes of the file, or more.

    Returns
    -------
    bool
        True for an animated WebP.
    """
    return head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def _head(path: str) -> bytes:
    with open_path_or_url(path) as file:
        return file.read(21)
