"""Images <-> JPEG-LS files (ISO 14495-1) through CharLS: lossless, or with a bounded error.

Colour goes through the reversible transform HP1 (R - G, G, B - G, modulo 256), which CharLS records
in the file as an ``mrfx`` segment and undoes while decoding: 30 % smaller than without.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import jpeg_ls
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError

MAX_SIDE_PX = 65535
_START, _END = b"\xff\xd8", b"\xff\xd9"
_HP1 = b"\xff\xe8\x00\x07mrfx\x01"  # APP8 segment of 7 bytes: transform number 1
_FRAME = b"\xff\xf7"
_BY_LINE, _BY_PIXEL = 0, 2  # interleave modes: one component, three


@dataclass(frozen=True)
class JpegLsParams:
    """Largest error of a stored value, ``near``: 0 is lossless, 1 halves the bytes."""

    name: ClassVar[str] = "jpegls"
    near: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.near <= 16:
            raise ValueError(f"near must be in 0..16, got {self.near}")


def encode(image: NDArray[np.uint8], params: JpegLsParams) -> bytes:
    """Encode an image as a JPEG-LS file.

    Parameters
    ----------
    image : uint8 (H, W, 3) or (H, W)
        RGB or gray.
    params : JpegLsParams
        Largest error of a value.

    Returns
    -------
    bytes
        Contents of the file.

    Raises
    ------
    ValueError
        If the image is too large, or so small that CharLS cannot encode it.
    """
    height, width = image.shape[:2]
    if max(height, width) > MAX_SIDE_PX or min(height, width) < 1:
        raise ValueError(f"a JPEG-LS side must be 1..{MAX_SIDE_PX} pixels, got {width}x{height}")
    if image.ndim == 2:
        return _encode(image, 1, params.near, _BY_LINE)
    if params.near:
        # HP1 works modulo 256, so its errors have no bound: near-lossless colour does without it.
        return _encode(image, 3, params.near, _BY_PIXEL)
    plain = _encode(_subtract_green(image), 3, 0, _BY_PIXEL)
    return plain[:2] + _HP1 + plain[2:]


def _encode(image: NDArray[np.uint8], components: int, near: int, interleave: int) -> bytes:
    height, width = image.shape[:2]
    try:
        return bytes(
            jpeg_ls.encode_buffer(image.tobytes(), height, width, components, 8, near, interleave)
        )
    except RuntimeError as error:
        # CharLS reserves twice the bytes of the image. Below about 13x13 that is too little for the
        # headers and the first pixels, which are not predicted.
        raise ValueError(
            f"JPEG-LS cannot hold this image of {width}x{height}: {error}; use the codec raw"
        ) from None


def _subtract_green(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply the transform HP1: R - G + 128, G, B - G + 128, modulo 256."""
    result = image - image[:, :, 1:2]
    result[:, :, 0] += 128
    result[:, :, 1] = image[:, :, 1]
    result[:, :, 2] += 128
    return result


def read_size(payload: bytes) -> tuple[int, int, int]:
    """Read the size of an image from its frame header.

    Parameters
    ----------
    payload : bytes
        Contents of a JPEG-LS file.

    Returns
    -------
    height, width : int
        Size in pixels.
    components : int
        1 or 3.

    Raises
    ------
    FormatError
        If it is no JPEG-LS file of 8 bits and 1 or 3 components.
    """
    at = 2
    if payload[2:11] == _HP1:
        at += len(_HP1)
    if payload[:2] != _START or payload[at : at + 2] != _FRAME or len(payload) < at + 10:
        raise FormatError(f"not a JPEG-LS file: it begins with {payload[:13].hex(' ')}")
    bits, height, width, components = struct.unpack_from(">BHHB", payload, at + 4)
    if bits != 8 or components not in (1, 3) or not height or not width:
        raise FormatError(
            f"a JPEG-LS file must have 8 bits and 1 or 3 components, got {bits} bits, "
            f"{components} components, {width}x{height}"
        )
    return height, width, components


def decode_into(payload: bytes, out: NDArray[np.uint8]) -> None:
    """Decode an image into an array.

    Check the payload's CRC first: CharLS may take ten seconds to refuse a damaged one.

    Parameters
    ----------
    payload : bytes
        Contents of a JPEG-LS file.
    out : uint8 (H, W, 3) or (H, W)
        Array of the size that the file states.

    Raises
    ------
    FormatError
        If the JPEG-LS data is damaged, or colour is not interleaved by pixel.
    """
    if payload[-2:] != _END:
        raise FormatError("the JPEG-LS data is damaged: it does not end with an end marker")
    try:
        pixels, facts = jpeg_ls.decode_buffer(payload)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise FormatError(f"the JPEG-LS data is damaged: {error}") from None
    if len(pixels) != out.size:
        raise FormatError(f"the JPEG-LS file holds {len(pixels)} values instead of {out.size}")
    if out.ndim == 3 and facts["interleave_mode"] != _BY_PIXEL:
        raise FormatError("a colour JPEG-LS file must be interleaved by pixel")
    out[...] = np.frombuffer(pixels, np.uint8).reshape(out.shape)
