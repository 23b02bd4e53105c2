"""Planes -> bytes of one image file each, and back: the CODECS table.

Every payload of every codec is an ordinary image file, so it can be copied out of a shard and
opened with any viewer that knows the format: colour as RGB, a flow field as one gray image with x
left of y.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.codec import jpeg, jpegls, raw
from flowpipe.codec.images import images_to_planes, planes_to_images
from flowpipe.codec.jpeg import JpegParams
from flowpipe.codec.jpegls import JpegLsParams
from flowpipe.codec.raw import RawParams
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES, are_colours
from flowpipe.words import unknown_name

__all__ = [
    "CODECS", "CodecRow", "JpegLsParams", "JpegParams", "Payload", "RawParams", "decode",
    "default_params", "encode", "for_modality",
]  # fmt: skip

Payload = bytes | bytearray | memoryview


@dataclass(frozen=True)
class CodecRow:
    """Row of `CODECS`: how one image becomes a file, and the extension of its files."""

    params: type[Any]
    """Frozen dataclass with a ClassVar ``name``."""
    encode: Callable[[NDArray[np.uint8], Any], bytes]
    """(image uint8 (H, W) or (H, W, 3), C-contiguous; params) -> payload."""
    read_size: Callable[[bytes], tuple[int, int, int]]
    """Payload -> (height, width, channels 1 or 3); FormatError if it is no such file."""
    decode_into: Callable[[bytes, NDArray[np.uint8]], None]
    """(payload, array of the size that `read_size` gave): writes the pixels to the array."""
    extension: str
    """Extension of the files, with its dot."""


CODECS = {
    row.params.name: row
    for row in (
        CodecRow(JpegParams, jpeg.encode, jpeg.read_size, jpeg.decode_into, ".jpg"),
        CodecRow(JpegLsParams, jpegls.encode, jpegls.read_size, jpegls.decode_into, ".jls"),
        CodecRow(RawParams, raw.encode, raw.read_size, raw.decode_into, ".pnm"),
    )
}


def default_params(modality: str) -> Any:
    """Return the default codec params of a modality.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    codec params
        Instance of a params class in `CODECS`.
    """
    return for_modality(CODECS[MODALITIES[modality].codec].params(), modality)


def for_modality(params: Any, modality: str) -> Any:
    """Return codec params with the subsampling decided by the modality's row.

    ``auto`` becomes the subsampling of the row. A modality without colour always gets ``gray``: it
    has no chroma, so the bytes do not depend on it.

    Parameters
    ----------
    params : codec params
        Params as the recipe states them.
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    codec params
        Params with the subsampling that is used.

    Raises
    ------
    ValueError
        If a modality in colour has the subsampling ``gray``.
    """
    row, asked = MODALITIES[modality], getattr(params, "subsampling", None)
    if asked is None:
        return params
    if not row.is_colour or asked == "auto":
        return replace(params, subsampling=row.subsampling)
    if asked == "gray":
        raise ValueError(f"{modality} is stored in colour: subsampling must be 420, 422 or 444")
    return params


def encode(planes: NDArray[np.uint8], params: Any) -> tuple[bytes, ...]:
    """Encode planes: one payload per image.

    Parameters
    ----------
    planes : uint8 (T, C, H, W)
        C = 3 is R, G, B; C = 2 is a flow field; C = 1 is gray.
    params : JpegParams, JpegLsParams or RawParams
        Result of `for_modality`: images in colour need a subsampling other than ``auto``.

    Returns
    -------
    tuple of bytes
        T payloads.

    Raises
    ------
    ValueError
        If the planes have another shape or dtype, or are too large for the format, or the
        subsampling of images in colour is ``auto`` or ``gray``.
    """
    row = CODECS[params.name]
    return tuple(row.encode(image, params) for image in planes_to_images(planes))


def decode(
    payloads: Sequence[Payload],
    channels: int,
    params: Any = None,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Decode payloads of one size to planes.

    Parameters
    ----------
    payloads : sequence of bytes-like
        T image files.
    channels : int
        Channels of the modality: 1, 2 or 3.
    params : codec params or name of a codec, optional
        By default the codec is recognised by the first bytes of the first payload.
    out : uint8 (T, H, W, 3) or (T, H, C * W), C-contiguous, optional
        Array to decode into.

    Returns
    -------
    uint8 (T, C, H, W)
        For C > 1 a transposed view of memory of the shape (T, H, W, 3) or (T, H, 2, W).

    Raises
    ------
    ValueError
        If there is no payload, or no codec of that name.
    FormatError
        If a payload is damaged or of another size or codec, or `out` has another shape; the message
        names the payload.
    """
    if not payloads:
        raise ValueError("decode needs at least one payload: without one the size is unknown")
    name = recognise(payloads[0]) if params is None else getattr(params, "name", params)
    if name not in CODECS:
        raise ValueError(unknown_name("codec", name, CODECS))
    row = CODECS[name]
    height, width, depth = row.read_size(bytes(payloads[0]))
    if depth != (channels if are_colours(channels) else 1) or (depth == 1 and width % channels):
        raise FormatError(
            f"wanted channels = {channels}, which a {name} file of {width}x{height} with {depth} "
            "component(s) cannot hold"
        )
    shape = (len(payloads), height, width, 3) if depth == 3 else (len(payloads), height, width)
    if out is not None and out.shape != shape:
        raise FormatError(f"the images have the shape {shape}, but `out` has {out.shape}")
    images = np.empty(shape, np.uint8) if out is None else out
    for k, payload in enumerate(payloads):
        content = bytes(payload)
        try:
            size = row.read_size(content)
            if size != (height, width, depth):
                raise FormatError(f"its size is {size}, but payload 0 has {height, width, depth}")
            row.decode_into(content, images[k])
        except FormatError as error:
            raise FormatError(f"payload {k} of {len(payloads)}: {error}") from None
    return images_to_planes(images, channels)


def recognise(payload: Payload) -> str:
    """Return the name of the codec whose files begin as this payload does.

    Parameters
    ----------
    payload : bytes-like
        Contents of an image file.

    Returns
    -------
    str
        A key of `CODECS`.

    Raises
    ------
    FormatError
        If no codec writes such files.
    """
    head = bytes(payload[:4])
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    raise FormatError(f"a payload begins with {head!r}, which no codec of {list(CODECS)} writes")


# JPEG-LS shares JPEG's first marker; its second is a frame header or the colour transform's.
_STARTS = {
    JpegLsParams.name: (b"\xff\xd8\xff\xf7", b"\xff\xd8\xff\xe8"),
    JpegParams.name: (b"\xff\xd8\xff",),
    RawParams.name: (b"P5", b"P6"),
}
