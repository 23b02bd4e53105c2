"""MODALITIES: the one table that tells rgb, flow, warped_flow and rgb_diff apart.

No other module compares modality names; whoever needs to know how one differs from another reads a
field of its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Column:
    """A value kept beside every stored image of a modality, as a table column in the shard."""

    name: str
    dtype: str
    """NumPy type string, little-endian."""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Modality:
    """One row: everything that distinguishes a modality from the others.

    Image ``k`` of a modality is made from frames ``k .. k + context``, so a video of N frames has
    ``N - context`` images.
    """

    name: str
    channels: int
    """Planes of one image: 3 for colour (R, G, B), 2 for a flow field (u right, v down)."""
    context: int
    """Frames that an image needs beyond its own: 0 or 1."""
    zero_level: int | None
    """Byte that stands for no motion or no change; None for images without a sign."""
    codec: str
    """Default codec, a key of ``codec.CODECS``."""
    subsampling: str
    """Default chroma subsampling where the codec has one; differences keep full chroma."""
    flows: int = 0
    """Flow fields computed for one image; warped flow needs the plain one first."""
    columns: tuple[Column, ...] = ()
    difference_of: str = ""
    """Modality whose stored images, one minus the one before, can stand for it."""


_CLIPPED = Column("clipped", "<u4")  # values of one image outside the quantiser's range

MODALITIES = {
    row.name: row
    for row in (
        Modality("rgb", 3, 0, None, "jpeg", "420"),
        Modality("flow", 2, 1, 128, "jpeg", "gray", 1, (_CLIPPED,)),
        Modality(
            "warped_flow", 2, 1, 128, "jpeg", "gray", 2,
            (
                _CLIPPED,
                Column("homography", "<f8", (3, 3)),  # maps first-frame pixels to the second frame
                Column("matches", "<u4"),
                Column("inliers", "<u4"),
            ),
        ),
        Modality("rgb_diff", 3, 1, 128, "jpeg", "444", 0, (_CLIPPED,), "rgb"),
    )
}  # fmt: skip


def quantiser_of(modality: str, bound: float) -> dict[str, Any]:
    """Return the quantiser of a modality, as a shard records it; {} for RGB images.

    `bound` is the largest stored displacement, pixels.
    """
    row = MODALITIES[modality]
    if row.zero_level is None:
        return {}
    if row.flows:
        return {
            "unit": "pixel",
            "zero_level": row.zero_level,
            "bound": bound,
            "encode": "rint((clip(v, -bound, bound) + bound) * 255 / (2 * bound)), half to even",
            "decode": "q * (2 * bound / 255) - bound",
        }
    return {
        "unit": "level",
        "zero_level": row.zero_level,
        "bound": 128,
        "encode": "clip(next - this + 128, 0, 255)",
        "decode": "q - 128",
    }


def dequantise(
    planes: NDArray[np.uint8], quantiser: Mapping[str, Any], channels: int
) -> NDArray[np.float32]:
    """Return float32 values of quantised planes, in the quantiser's unit."""
    if channels == 2:
        bound = float(quantiser["bound"])
        table = np.arange(256) * (2 * bound / 255) - bound
    else:
        table = np.arange(256) - float(quantiser["zero_level"])
    return table.astype(np.float32)[planes]
