"""Images <-> binary portable pixmaps (PGM ``P5``, PPM ``P6``): uncompressed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError

_HEADER = re.compile(rb"P([56])\n(\d{1,9}) (\d{1,9})\n255\n")
_COMPONENTS = {b"5": 1, b"6": 3}


@dataclass(frozen=True)
class RawParams:
    """Params of the codec ``raw``: none."""

    name: ClassVar[str] = "raw"


def encode(image: NDArray[np.uint8], params: RawParams) -> bytes:
    """Encode an image as a PPM file (RGB) or a PGM file (gray).

    Parameters
    ----------
    image : uint8 (H, W, 3) or (H, W)
        RGB or gray.
    params : RawParams
        Not used: the format has no settings.

    Returns
    -------
    bytes
        Contents of the file.
    """
    height, width = image.shape[:2]
    kind = 5 if image.ndim == 2 else 6
    return b"P%d\n%d %d\n255\n" % (kind, width, height) + image.tobytes()


def read_size(payload: bytes) -> tuple[int, int, int]:
    """Read the size of an image from its header.

    Parameters
    ----------
    payload : bytes
        Contents of a PGM or PPM file.

    Returns
    -------
    height, width : int
        Size in pixels.
    components : int
        1 or 3.

    Raises
    ------
    FormatError
        If it is no binary PGM or PPM file of 8 bits, or its length is wrong.
    """
    header = _HEADER.match(payload[:64])
    if header is None:
        raise FormatError(
            f"not a binary PGM or PPM file of 8 bits: it begins with {payload[:16]!r}"
        )
    height, width, components = int(header[3]), int(header[2]), _COMPONENTS[header[1]]
    if len(payload) != header.end() + height * width * components:
        raise FormatError(
            f"a pixmap of {width}x{height} must hold {height * width * components} bytes after its "
            f"header, got {len(payload) - header.end()}"
        )
    return height, width, components


def decode_into(payload: bytes, out: NDArray[np.uint8]) -> None:
    """Decode an image into an array.

    Parameters
    ----------
    payload : bytes
        Contents of a PGM or PPM file.
    out : uint8 (H, W, 3) or (H, W)
        Array of the size that the file states.
    """
    out[...] = np.frombuffer(payload, np.uint8, offset=len(payload) - out.size).reshape(out.shape)
