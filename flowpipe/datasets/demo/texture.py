"""A random generator -> textures of overlapping shapes with corners at every scale.

In the "dead leaves" model (Lee, Mumford, Huang 2001), opaque shapes whose sizes follow a power law
give the edge and scale statistics of natural images, and no two positions look alike.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray


def leaves(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Draw a texture at random.

    Parameters
    ----------
    rng : Generator
        Source of the random numbers.
    height, width : int
        Size, pixels.

    Returns
    -------
    uint8 (height, width, 3)
        RGB, blurred by 1.5 pixels so that it can be sampled between pixels without aliasing.
    """
    palette = _palette(rng)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = palette[0]
    count = height * width // 450
    # Inverse of the cumulated power law r^-3 between the two radii.
    small, large = 9.0, 90.0
    share = rng.uniform(size=count)
    radii = (small**-2 + share * (large**-2 - small**-2)) ** -0.5
    places = rng.uniform((0, 0), (width, height), (count, 2))
    for radius, place in zip(radii, places, strict=True):
        corners = int(rng.choice((3, 4, 4, 5, 24)))
        angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * (2 * np.pi / corners)
        reach = radius * (1 if corners == 24 else rng.uniform(0.6, 1.3, corners))
        outline = place + np.stack((np.cos(angles), np.sin(angles)), 1) * np.reshape(reach, (-1, 1))
        colour = palette[rng.integers(len(palette))]
        # Sub-pixel corners: fillPoly takes whole numbers of 1/16 pixel.
        corners_16 = np.rint(outline * 16).astype(np.int32)
        cv2.fillPoly(picture, [corners_16], colour, cv2.LINE_AA, 4)
    grain = np.sum([_grain(rng, height, width, cell) for cell in (4, 12, 40)], axis=0)
    picture = np.clip(picture + grain[:, :, None], 0, 255).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8)


def blob(rng: np.random.Generator, size: int, radius: float) -> NDArray[np.float32]:
    """Draw the mask of a round, lobed patch with soft edges in the middle of a square.

    Parameters
    ----------
    rng : Generator
        Source of the random numbers.
    size : int
        Side of the square, pixels.
    radius : float
        Mean radius of the patch, pixels.

    Returns
    -------
    float32 (size, size)
        1 inside, 0 outside, about 4 pixels of transition.
    """
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    reach = np.ones_like(angles)
    for lobes in (2, 3, 4, 5):
        reach += rng.uniform(0, 0.24 / lobes) * np.sin(lobes * angles + rng.uniform(0, 2 * np.pi))
    ring = np.stack((np.cos(angles), np.sin(angles)), 1) * (radius * reach)[:, None]
    mask = np.zeros((size, size), np.uint8)
    outline_16 = np.rint(((size - 1) / 2 + ring) * 16).astype(np.int32)
    cv2.fillPoly(mask, [outline_16], 255, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.2), np.float32) / np.float32(255)


def _palette(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Draw twelve RGB colours of two neighbouring hues, dark to light."""
    hues = rng.uniform() + rng.uniform(0.08, 0.25) * np.array((0, 1))
    colours = []
    for value in np.linspace(0.2, 0.95, 12):
        hue = rng.choice(hues) + rng.normal(0, 0.02)
        red, green, blue = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.15, 0.65), value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colours


def _grain(rng: np.random.Generator, height: int, width: int, cell: int) -> NDArray[np.float32]:
    coarse = rng.normal(0, 7, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
