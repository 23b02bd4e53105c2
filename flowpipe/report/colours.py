"""Flow -> colours: the Middlebury wheel, direction as hue and speed as saturation.

Source: S. Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 92 (2011);
the wheel's 55 hues and their spacing as in the colour coding published with that benchmark.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNKNOWN_PX = 1e9
"""Displacement from which on the benchmark's files mean unknown flow, pixels."""
_ARCS = (
    # hues from one corner of the colour cube to the next; more where the eye is more sensitive
    (15, (255, 0, 0), (255, 255, 0)),
    (6, (255, 255, 0), (0, 255, 0)),
    (4, (0, 255, 0), (0, 255, 255)),
    (11, (0, 255, 255), (0, 0, 255)),
    (13, (0, 0, 255), (255, 0, 255)),
    (6, (255, 0, 255), (255, 0, 0)),
)


def _make_wheel() -> NDArray[np.float32]:
    arcs = []
    for count, start, end in _ARCS:
        share = np.arange(count)[:, None] / count
        arcs.append(np.floor((1 - share) * start + share * end) / 255)
    return np.concatenate(arcs).astype(np.float32)


WHEEL = _make_wheel()
"""RGB of each direction, (55, 3) in 0..1: right is red, then down, left and up."""


def flow_colours(flow: NDArray[np.floating], max_px: float | None = None) -> NDArray[np.uint8]:
    """Colour a flow field.

    Parameters
    ----------
    flow : float (..., 2, H, W)
        Flow in pixels, u right, v down.
    max_px : float, optional
        Displacement in full colour; larger ones are darker. Default: the largest of the field.

    Returns
    -------
    uint8 (..., H, W, 3)
        RGB. White is no motion; NaN, infinity and displacements above 1e9 are black.
    """
    if flow.ndim < 3 or flow.shape[-3] != 2:
        raise ValueError(f"flow must be (..., 2, H, W), got {flow.shape}")
    if max_px is not None and not max_px > 0:
        raise ValueError(f"max_px must be above 0, got {max_px}")
    u, v = np.moveaxis(flow, -3, 0).astype(np.float32)
    with np.errstate(invalid="ignore"):
        known = (np.abs(u) < UNKNOWN_PX) & (np.abs(v) < UNKNOWN_PX)
    u, v = np.where(known, u, 0), np.where(known, v, 0)
    speed = np.hypot(u, v)
    if max_px is None:
        max_px = float(speed.max(initial=0)) or 1.0
    speed /= np.float32(max_px)
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(WHEEL) - 1)
    low = np.floor(place).astype(np.intp)
    share = (place - low)[..., None]
    hue = (1 - share) * WHEEL[low] + share * WHEEL[(low + 1) % len(WHEEL)]
    speed = speed[..., None]
    colour = np.where(speed <= 1, 1 - speed * (1 - hue), hue * np.float32(0.75))
    colour[~known] = 0
    pixels: NDArray[np.uint8] = np.floor(255 * colour).astype(np.uint8)
    return pixels


def wheel_key(size_px: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw the colour key: a disc of all directions, with speed growing outwards.

    Parameters
    ----------
    size_px : int
        Side of the key.

    Returns
    -------
    picture : uint8 (size, size, 3)
        RGB.
    cover : float32 (size, size)
        1 inside the disc, 0 outside, smooth between.
    """
    axis = (np.arange(size_px, dtype=np.float32) - (size_px - 1) / 2) / (size_px / 2 - 1)
    u, v = np.meshgrid(axis, axis)
    radius = np.hypot(u, v)
    picture = flow_colours(np.stack((u, v)) / np.maximum(radius, 1), max_px=1)
    cover = np.clip((1 - radius) * (size_px / 2 - 1) + 0.5, 0, 1)
    return picture, cover.astype(np.float32)
