"""Surfaces -> upright RGB, as libswscale converts the same pictures; slow and simple.

All arithmetic is in integers, so the result is exact. Intermediate values have 15 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.surfaces import RgbConversion, Surfaces


def rgb_of(surfaces: Surfaces) -> NDArray[np.uint8]:
    """Convert surfaces to upright RGB.

    Parameters
    ----------
    surfaces : Surfaces
        N pictures on the host.

    Returns
    -------
    uint8 (N, H, W, 3)
        Frames.
    """
    return np.stack([_rgb(picture, surfaces.conversion) for picture in surfaces.pictures])


def _rgb(picture: NDArray[np.uint8], conversion: RgbConversion) -> NDArray[np.uint8]:
    c = conversion
    values = picture if c.bits == 8 else picture.view(np.uint16) >> (16 - c.bits)
    values = values.reshape(-1, c.width + c.width % 2).astype(np.int64)
    luma, chroma = values[: c.height, : c.width] << (17 - c.bits), values[c.height :]
    u, v = (_every_pixel(chroma[:, which::2], c) for which in (0, 1))
    black, gain, v_to_red, v_to_green, u_to_green, u_to_blue = c.colour.tolist()
    gray = (luma - black) * gain + (1 << 21)
    colours = gray + v * v_to_red, gray + v * v_to_green + u * u_to_green, gray + u * u_to_blue
    # libswscale's sums wrap around at 32 bits for impossible colours
    wrapped = np.stack(colours, axis=-1).astype(np.uint32).view(np.int32)
    image = np.clip(wrapped >> 22, 0, 255).astype(np.uint8)
    image = np.rot90(image, -c.quarter_turns)
    return np.ascontiguousarray(image[:, ::-1] if c.mirrored else image)


def _every_pixel(chroma: NDArray[np.int64], conversion: RgbConversion) -> NDArray[np.int64]:
    """Upsample U or V to every pixel of luma: int64 (H, W)."""
    near, far, near_weight, far_weight = conversion.columns.T.astype(np.int64)
    wide = (chroma[:, near] * near_weight + chroma[:, far] * far_weight) >> (conversion.bits - 1)
    near, far, near_weight, far_weight = conversion.rows.T.astype(np.int64)[:, :, None]
    tall = wide[near[:, 0]] * near_weight + wide[far[:, 0]] * far_weight
    rounded: NDArray[np.int64] = (tall + (1 << 9) - (128 << 19)) >> 10
    return rounded
