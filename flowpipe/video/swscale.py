"""Kind of picture -> the whole numbers by which libswscale converts it to RGB.

With the flags that `colour.Converter` gives it, libswscale brings chroma to every pixel by a
bilinear filter, across and then down, and multiplies by the gains of a matrix, all in whole
numbers. The same numbers let another device make the same bytes. They are derived here from
libswscale's definitions, and `flowpipe.video.surfaces` compares the results before it relies on
them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flowpipe.surfaces import RgbConversion
from flowpipe.video.colour import FULL, Colour, Turn

GAINS = {
    # swscale's matrix -> red by V, blue by U, green by U, green by V, in 1/65536, limited range
    1: (117489, 138438, 13975, 34925),
    4: (104448, 132798, 24759, 53109),
    5: (104597, 132201, 25675, 53279),
    7: (117579, 136230, 16907, 35559),
    9: (110013, 140363, 12277, 42626),
}
SITINGS = {
    # where chroma lies between luma: across and down, in 1/256 of a pixel from the first one
    "left": (0, 128),
    "center": (128, 128),
    "topleft": (0, 0),
    "top": (128, 0),
    "bottomleft": (0, 256),
    "bottom": (128, 256),
}
NEGLIGIBLE = 0.002
"""A weight up to this is left out, and the rest takes its share."""
UNIT = 1 << 30
COLUMN_WEIGHT, ROW_WEIGHT = 1 << 14, 1 << 12


def conversions(
    height: int, width: int, bits: int, colour: Colour, turn: Turn
) -> Iterator[RgbConversion]:
    """Yield the conversion of a picture for each siting of its chroma, the usual ones first.

    PyAV does not tell the siting of a picture.
    """
    for across, down in SITINGS.values():
        yield RgbConversion(
            height, width, bits,
            gains(colour),
            taps(width, across, COLUMN_WEIGHT),
            taps(height, down, ROW_WEIGHT),
            turn.rotation_deg // 90,
            turn.mirrored,
        )  # fmt: skip


def gains(colour: Colour) -> NDArray[np.int32]:
    """Return `RgbConversion.colour` of a matrix and range."""
    red, blue, green_u, green_v = GAINS[colour.swscale_matrix]
    luma, black = (1 << 16) * 255 // 219, 16 << 9
    if colour.swscale_range == FULL:
        red, blue, green_u, green_v = (gain * 224 // 255 for gain in (red, blue, green_u, green_v))
        luma, black = 1 << 16, 0
    scaled = [(gain * 8192 + (1 << 15)) >> 16 for gain in (luma, red, -green_v, -green_u, blue)]
    return np.array([black, *scaled], np.int32)


@functools.lru_cache(maxsize=32)
def taps(count: int, position: int, one: int) -> NDArray[np.int32]:
    """For each of `count` rows or columns of luma, the two of chroma that it lies between.

    Parameters
    ----------
    count : int
    position : int
        Where the first chroma value lies, in 1/256 of a pixel from the first of luma.
    one : int
        The sum of both weights.

    Returns
    -------
    int32 (count, 4)
        Index of the near and the far value, weight of the near and the far value.
    """
    chroma = (count + 1) // 2
    step = ((chroma << 16) + (count >> 1)) // count
    # a filter of three values, in 1/2**17 of a chroma value; two of them are left
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
    """Begin a filter at its first weight that counts, but not behind the next filter."""
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
    """Round weights to whole numbers of the sum `one`; what rounding costs one, the next gets."""
    total = (weights.sum(axis=1) + one // 2) // one
    near = np.where(is_one, weights.sum(axis=1), weights[:, 0])
    near_units = (near + total // 2) // total
    rest = np.where(is_one, 0, weights[:, 1]) + near - near_units * total
    far_units = np.sign(rest) * ((np.abs(rest) + total // 2) // total)
    return near_units, far_units
