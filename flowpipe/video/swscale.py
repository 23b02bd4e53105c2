"""Kind of picture -> integer coefficients of libswscale's conversion to RGB.

With the flags of `colour.Converter`, libswscale interpolates chroma to every pixel by a bilinear
filter, horizontally and then vertically, and multiplies by the gains of a matrix, all in integers.
With the same integers another device gives the same bytes. They are derived here from libswscale's
definitions, and `flowpipe.video.surfaces` compares the results before it uses them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flowpipe.surfaces import RgbConversion
from flowpipe.video.colour import FULL, ColourTags, Orientation

GAINS = {
    # swscale's matrix -> red by V, blue by U, green by U, green by V, in 1/65536, limited range
    1: (117489, 138438, 13975, 34925),
    4: (104448, 132798, 24759, 53109),
    5: (104597, 132201, 25675, 53279),
    7: (117579, 136230, 16907, 35559),
    9: (110013, 140363, 12277, 42626),
}
SITINGS = {
    # position of the first chroma value, horizontal and vertical, in 1/256 of a pixel
    "left": (0, 128),
    "center": (128, 128),
    "topleft": (0, 0),
    "top": (128, 0),
    "bottomleft": (0, 256),
    "bottom": (128, 256),
}
NEGLIGIBLE = 0.002
"""Share of a filter weight up to which it is dropped; the others are scaled up."""
UNIT = 1 << 30
COLUMN_WEIGHT, ROW_WEIGHT = 1 << 14, 1 << 12


def conversions(
    height: int, width: int, bits: int, colour: ColourTags, turn: Orientation
) -> Iterator[RgbConversion]:
    """Yield the conversion of a picture for each chroma siting, the usual ones first.

    PyAV does not expose the siting of a picture.

    Parameters
    ----------
    height, width : int
        Size of the coded picture, pixels.
    bits : int
        Bits of a sample.
    colour : ColourTags
        Colours of the picture.
    turn : Orientation
        Orientation of the picture.

    Yields
    ------
    RgbConversion
        Conversion for one siting.
    """
    for across, down in SITINGS.values():
        yield RgbConversion(
            height=height, width=width, bits=bits,
            colour=gains(colour),
            columns=taps(width, across, COLUMN_WEIGHT),
            rows=taps(height, down, ROW_WEIGHT),
            quarter_turns=turn.rotation_deg // 90,
            mirrored=turn.mirrored,
        )  # fmt: skip


def gains(colour: ColourTags) -> NDArray[np.int32]:
    """Return the gains of a matrix and range.

    Parameters
    ----------
    colour : ColourTags
        Colours of the picture.

    Returns
    -------
    int32 (6,)
        `RgbConversion.colour`.
    """
    red, blue, green_u, green_v = GAINS[colour.swscale_matrix]
    luma, black = (1 << 16) * 255 // 219, 16 << 9
    if colour.swscale_range == FULL:
        red, blue, green_u, green_v = (gain * 224 // 255 for gain in (red, blue, green_u, green_v))
        luma, black = 1 << 16, 0
    scaled = [(gain * 8192 + (1 << 15)) >> 16 for gain in (luma, red, -green_v, -green_u, blue)]
    return np.array([black, *scaled], np.int32)


@functools.lru_cache(maxsize=32)
def taps(count: int, position: int, one: int) -> NDArray[np.int32]:
    """Return the two chroma values around each luma row or column, and their weights.

    Parameters
    ----------
    count : int
        Number of luma rows or columns.
    position : int
        Position of the first chroma value, in 1/256 of a pixel from the first luma value.
    one : int
        Sum of both weights.

    Returns
    -------
    int32 (count, 4)
        Index of the near and the far value, weight of the near and the far value.
    """
    chroma = (count + 1) // 2
    step = ((chroma << 16) + (count >> 1)) // count
    # filters of three values, in 1/2**17 of a chroma value; two values remain
    at = 128 * step // 128 - (position + 128) // 2 * 512 + 2 * step * np.arange(count)
    begin = np.trunc((at - (1 << 16)) / (1 << 17)).astype(np.int64)
    apart = np.abs((begin[:, None] + np.arange(3) << 17) - at[:, None]) << 13
    weights = np.maximum(UNIT - apart, 0)
    for i in reversed(range(count)):
        _drop_left(begin, weights, i)
    weights = weights[:, :2]
    last = chroma - 1
    near, far = np.clip(begin, 0, last), np.clip(begin + 1, 0, last)
    return np.column_stack([near, far, *_in_units(weights, near == far, one)]).astype(np.int32)


def _drop_left(begin: NDArray[np.int64], weights: NDArray[np.int64], i: int) -> None:
    """Drop negligible weights at the start of filter i, but do not move it past the next filter."""
    for _ in range(weights.shape[1]):
        if weights[i, 0] > NEGLIGIBLE * UNIT:
            return
        if i + 1 < len(begin) and begin[i] >= begin[i + 1]:
            return
        weights[i] = *weights[i, 1:], 0
        begin[i] += 1


def _in_units(
    weights: NDArray[np.int64], is_one: NDArray[np.bool_], one: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Round weights to integers with the sum `one`; the rounding error goes to the next weight."""
    total = (weights.sum(axis=1) + one // 2) // one
    near = np.where(is_one, weights.sum(axis=1), weights[:, 0])
    near_units = (near + total // 2) // total
    rest = np.where(is_one, 0, weights[:, 1]) + near - near_units * total
    far_units = np.sign(rest) * ((np.abs(rest) + total // 2) // total)
    return near_units, far_units
