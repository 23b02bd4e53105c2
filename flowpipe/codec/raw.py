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
    """Encode uint8 (H, W, 3) RGB as a PPM file, (H, W) gray as a PGM file."""
    height, width = image.shape[:2]
    kind = 5 if image.ndim == 2 else 6
    return b"P%d\n%d %d\n255\n" % (kind, width, height) + image.tobytes()


def read_size(payload: bytes) -> tuple[int, int, int]:
    """Return (height, width, components 1 or 3) of a payload.

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
    """Decode a payload into `out`, uint8 (H, W, 3) or (H, W), of the size that the file states."""
    out[...] = np.frombuffer(payload, np.uint8, offset=len(payload) - out.size).reshape(out.shape)
