"""MODALITIES: the one table that tells rgb, flow, warped_flow, rgb_diff and audio apart.

No other module compares modality names or asks for a number of channels. A field of the row answers
each question about a modality.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.words import unknown_name

COLOURS = ("red", "green", "blue")
"""Planes of an image in colour. They are stored as one RGB image."""
AXES = ("x", "y")
"""Planes of a flow field: displacement to the right and down."""


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
    ``N - context`` images. Images of sound (`from_sound`) have times of their own instead, in the
    column `START_S`, and their number does not depend on that of the frames.
    """

    name: str
    """Name in recipes, stores, options and reports."""
    planes: tuple[str, ...]
    """Names of the planes of one image: `COLOURS`, `AXES` for a flow field, or one of another kind.
    """
    context: int
    """Frames that an image needs beyond its own: 0 or 1; 0 for images of sound."""
    zero_level: int | None
    """Byte that stands for no motion or no change; None for images without a sign."""
    _: KW_ONLY
    maker: str
    """Key of the function that makes the images, in `extraction.planes.MAKERS`; empty for images of
    sound, which `flowpipe.audio` makes."""
    codec: str
    """Default codec, a key of ``codec.CODECS``."""
    subsampling: str
    """Default chroma subsampling where the codec has one; differences keep full chroma."""
    bytes_per_pixel: float
    """Stored bytes per pixel with the default codec, from benchmarks/codecs.py on clips of 340x256;
    an estimate for `flowpipe plan`."""
    snippet_length: int
    """Images of a snippet in the papers."""
    files: tuple[str, ...]
    """Stems of the files of an exported image: one, or one for each axis of a flow field.
    dense_flow writes warped flow as ``flow_x`` too, to another folder."""
    other_stems: str = ""
    """Regular expression of the stems that other tools give such files, with the group ``axis`` for
    a flow field; empty if none is known."""
    flows: int = 0
    """Flow fields computed for one image; warped flow needs the plain one first."""
    columns: tuple[Column, ...] = ()
    difference_of: str = ""
    """Modality whose stored images, one minus the one before, can stand for it."""
    from_sound: bool = False
    """True if images are spectrograms of the sound. Rows are then frequencies and columns times, so
    crops, flips and changes of scale make no sense."""
    byte_mean: float | None = None
    """Mean of the stored bytes, by which inputs of networks are normalised; None if the weights of
    a network tell it."""
    byte_std: float = 1.0
    """Standard deviation of the stored bytes, used with `byte_mean`."""

    @property
    def channels(self) -> int:
        """Number of planes of one image."""
        return len(self.planes)

    @property
    def is_colour(self) -> bool:
        """True if the planes are red, green and blue."""
        return are_colours(self.channels)

    @property
    def is_flow(self) -> bool:
        """True if the planes are the displacements x and y."""
        return self.planes == AXES


def are_colours(channels: int) -> bool:
    """Return whether an image of so many planes is one RGB image.

    Other numbers of planes lie side by side in one gray image (clause S18 of FORMAT.md).

    Parameters
    ----------
    channels : int
        Number of planes.

    Returns
    -------
    bool
        True for red, green and blue.
    """
    return channels == len(COLOURS)


CLIPPED = Column("clipped", "<u4")
"""Number of values of one image outside the quantiser's range."""
HOMOGRAPHY = Column("homography", "<f8", (3, 3))
"""Map from pixels of the first frame to those of the second."""
START_S = Column("start_s", "<f8")
"""Time of an image of sound: of its first sample, on the clock of the frames' pts_s, seconds."""
MATCHES, INLIERS = Column("matches", "<u4"), Column("inliers", "<u4")
"""Number of matches that the homography was estimated from, and of those that agree with it."""

MODALITIES = {
    row.name: row
    for row in (
        Modality(
            "rgb", COLOURS, context=0, zero_level=None, maker="frames",
            codec="jpeg", subsampling="420", bytes_per_pixel=0.35, snippet_length=1,
            files=("img",), other_stems="(?:img|image|frame)",
        ),
        Modality(
            "flow", AXES, context=1, zero_level=128, maker="flow",
            codec="jpeg", subsampling="gray", bytes_per_pixel=0.08, snippet_length=5,
            files=("flow_x", "flow_y"), other_stems="(?:flow_)?(?P<axis>[xy])",
            flows=1, columns=(CLIPPED,),
        ),
        Modality(
            "warped_flow", AXES, context=1, zero_level=128, maker="warped flow",
            codec="jpeg", subsampling="gray", bytes_per_pixel=0.08, snippet_length=5,
            files=("warp_x", "warp_y"),
            flows=2,
            columns=(CLIPPED, HOMOGRAPHY, MATCHES, INLIERS),
        ),
        Modality(
            "rgb_diff", COLOURS, context=1, zero_level=128, maker="differences",
            codec="jpeg", subsampling="444", bytes_per_pixel=0.30, snippet_length=5,
            files=("diff",),
            columns=(CLIPPED,), difference_of="rgb",
        ),
        Modality(
            "audio", ("mel",), context=0, zero_level=None, maker="",
            codec="jpegls", subsampling="gray", bytes_per_pixel=0.65, snippet_length=1,
            files=("audio",),
            columns=(START_S,), from_sound=True, byte_mean=110.0, byte_std=50.0,
        ),
    )
}  # fmt: skip


def check_modalities(what: str, names: Collection[str]) -> None:
    """Raise ValueError unless the names are rows of `MODALITIES`.

    Parameters
    ----------
    what : str
        Description of the names, for the message.
    names : collection of str
        Names to check; there must be one.
    """
    if not names:
        raise ValueError(f"{what} must be some of {', '.join(MODALITIES)}, got none")
    for name in names:
        if name not in MODALITIES:
            raise ValueError(unknown_name("modality", name, MODALITIES))


FLOOR_DB = -100.0
"""Default power of the quietest sound that is told from silence, dB below a full-scale sine."""


def quantiser_of(modality: str, bound: float, floor_db: float = FLOOR_DB) -> dict[str, Any]:
    """Return the quantiser of a modality, as a shard records it.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.
    bound : float
        Largest flow displacement that is stored, pixels.
    floor_db : float
        Lowest power of sound that is stored, dB.

    Returns
    -------
    dict
        JSON values; {} for RGB images.
    """
    row = MODALITIES[modality]
    if row.from_sound:
        return {
            "unit": "decibel",
            "floor_db": floor_db,
            "encode": "rint((clip(v, floor_db, 0) - floor_db) * 255 / -floor_db), half to even",
            "decode": "q * (-floor_db / 255) + floor_db",
        }
    if row.zero_level is None:
        return {}
    if row.is_flow:
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
    planes: NDArray[np.uint8], quantiser: Mapping[str, Any], modality: str
) -> NDArray[np.float32]:
    """Return the values of quantised planes.

    Parameters
    ----------
    planes : uint8 (T, C, H, W)
        Stored images.
    quantiser : mapping
        Quantiser of `quantiser_of`.
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    float32 (T, C, H, W)
        Values in the quantiser's unit.
    """
    if MODALITIES[modality].is_flow:
        bound = float(quantiser["bound"])
        table = np.arange(256) * (2 * bound / 255) - bound
    elif MODALITIES[modality].from_sound:
        floor_db = float(quantiser["floor_db"])
        table = np.arange(256) * (-floor_db / 255) + floor_db
    else:
        table = np.arange(256) - float(quantiser["zero_level"])
    return table.astype(np.float32)[planes]
