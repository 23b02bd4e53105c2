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
from flowpipe.codec.images import as_images, as_planes
from flowpipe.codec.jpeg import JpegParams
from flowpipe.codec.jpegls import JpegLsParams
from flowpipe.codec.raw import RawParams
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES

__all__ = [
    "CODECS", "CodecRow", "JpegLsParams", "JpegParams", "Payload", "RawParams", "decode",
    "default_params", "encode", "for_modality",
]  # fmt: skip

Payload = bytes | bytearray | memoryview


@dataclass(frozen=True)
class CodecRow:
    """One codec: how a single image becomes a file and what its files are called."""

    params: type[Any]
    """Frozen dataclass with a ClassVar ``name``."""
    encode: Callable[[NDArray[np.uint8], Any], bytes]
    """(H, W) or (H, W, 3) uint8, C-contiguous -> payload."""
    read_size: Callable[[bytes], tuple[int, int, int]]
    """Payload -> (height, width, channels 1 or 3); FormatError if it is no such file."""
    decode_into: Callable[[bytes, NDArray[np.uint8]], None]
    """Payload -> pixels written to an array of the size that `read_size` gave."""
    extension: str


CODECS = {
    row.params.name: row
    for row in (
        CodecRow(JpegParams, jpeg.encode, jpeg.read_size, jpeg.decode_into, ".jpg"),
        CodecRow(JpegLsParams, jpegls.encode, jpegls.read_size, jpegls.decode_into, ".jls"),
        CodecRow(RawParams, raw.encode, raw.read_size, raw.decode_into, ".pnm"),
    )
}


def default_params(modality: str) -> Any:
    """Codec params that a modality takes when a recipe names none."""
    return for_modality(CODECS[MODALITIES[modality].codec].params(), modality)


def for_modality(params: Any, modality: str) -> Any:
    """Params with what they leave to the modality decided by its row.

    Subsampling ``auto`` becomes the row's. Whatever it says of a modality without colour becomes
    ``gray``, for the bytes are the same.

    Raises
    ------
    ValueError
        If a modality in colour is to be ``gray``.
    """
    row, asked = MODALITIES[modality], getattr(params, "subsampling", None)
    if asked is None:
        return params
    if row.channels != 3 or asked == "auto":
        return replace(params, subsampling=row.subsampling)
    if asked == "gray":
        raise ValueError(f"{modality} is stored in colour: subsampling must be 420, 422 or 444")
    return params


def encode(planes: NDArray[np.uint8], params: Any) -> tuple[bytes, ...]:
    """Planes -> one payload per image.

    Parameters
    ----------
    planes : uint8 (T, C, H, W)
        C = 3 is R, G, B; C = 2 is a flow field; C = 1 is gray.
    params : JpegParams, JpegLsParams or RawParams
        As `for_modality` leaves them: colour wants a decided subsampling.

    Raises
    ------
    ValueError
        If the planes are of another shape or type, or too large for the format, or the params
        leave open how colour is stored.
    """
    row = CODECS[params.name]
    return tuple(row.encode(image, params) for image in as_images(planes))


def decode(
    payloads: Sequence[Payload],
    channels: int,
    params: Any = None,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Payloads of one size -> planes.

    Parameters
    ----------
    payloads : sequence of bytes-like
    channels : int
        1, 2 or 3, as the modality has.
    params : codec params or name of a codec, optional
        Left out, the codec is recognised by the first bytes of the first payload.
    out : uint8 (T, H, W, 3) or (T, H, C * W), C-contiguous, optional
        Memory of the images, which is decoded into; FormatError if it is not of their size.

    Returns
    -------
    uint8 (T, C, H, W)
        For C > 1 a transposed view of the image memory: (T, H, W, 3) or (T, H, 2, W).

    Raises
    ------
    FormatError
        Naming the payload and what is wrong with it.
    """
    if not payloads:
        raise ValueError("decode needs at least one payload: without one the size is unknown")
    name = recognise(payloads[0]) if params is None else getattr(params, "name", params)
    row = CODECS[name]
    height, width, depth = row.read_size(bytes(payloads[0]))
    if depth != (3 if channels == 3 else 1) or (channels == 2 and width % 2):
        raise FormatError(
            f"a {channels} channel image cannot be a {name} file of {width}x{height} with {depth} "
            "component(s)"
        )
    shape = (len(payloads), height, width, 3) if depth == 3 else (len(payloads), height, width)
    if out is not None and out.shape != shape:
        raise FormatError(f"the images have the shape {shape} and their memory {out.shape}")
    images = np.empty(shape, np.uint8) if out is None else out
    for k, payload in enumerate(payloads):
        content = bytes(payload)
        try:
            size = row.read_size(content)
            if size != (height, width, depth):
                raise FormatError(
                    f"its size is {size} and that of payload 0 {height, width, depth}"
                )
            row.decode_into(content, images[k])
        except FormatError as error:
            raise FormatError(f"payload {k} of {len(payloads)}: {error}") from None
    return as_planes(images, channels)


def recognise(payload: Payload) -> str:
    """Name of the codec whose files begin as this payload does."""
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
