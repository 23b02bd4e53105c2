"""Size of an image -> what to cut from it: TSN's corner crops with scale jitter, its ten of tests.

Pure functions of whole numbers; `augment` does the cutting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowpipe.train_recipe import AugmentParams

_SNAP_PX = 3
"""Crops that differ by less from the network's input have its size."""
_MOST_DISTORTION = 1
"""How far apart in the list of scales the width and the height of a crop may be."""
_STEPS = {
    # in quarters of the room: (horizontal, vertical)
    5: ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    13: (
        (0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1),
        (1, 3), (3, 3),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Crop:
    """A rectangle in pixels, mirrored or not."""

    x: int
    y: int
    width: int
    height: int
    flip: bool = False


def places(count: int, width: int, height: int, crop: tuple[int, int]) -> list[tuple[int, int]]:
    """Upper left corners of the 5 or 13 places of a crop (width, height), in TSN's order.

    The corners are four quarters of the room from the left and the top, each rounded down, so they
    may lie up to three pixels inside.
    """
    step_x, step_y = (width - crop[0]) // 4, (height - crop[1]) // 4
    return [(x * step_x, y * step_y) for x, y in _STEPS[count]]


def sizes(width: int, height: int, scales: Sequence[float], side: int) -> list[tuple[int, int]]:
    """(width, height) of all crops that scale jitter may take, in TSN's order."""
    base = min(width, height)
    kept = [int(base * scale) for scale in scales]
    kept = [side if abs(size - side) < _SNAP_PX else size for size in kept]
    return [
        (w, h)
        for i, h in enumerate(kept)
        for j, w in enumerate(kept)
        if abs(i - j) <= _MOST_DISTORTION
    ]


def random_crop(
    params: AugmentParams, width: int, height: int, side: int, rng: np.random.Generator
) -> Crop:
    """One crop for all images of a video in a step of training."""
    pairs = sizes(width, height, params.scales, side)
    w, h = pairs[int(rng.integers(len(pairs)))]
    if params.crops == "random":
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    else:
        there = places(int(params.crops), width, height, (w, h))
        x, y = there[int(rng.integers(len(there)))]
    return Crop(x, y, w, h, params.flip and bool(rng.integers(2)))


def crops_of(count: int, width: int, height: int, side: int) -> list[Crop]:
    """1: the centre, as torchvision rounds it. 5: corners and centre. 10: each mirrored too."""
    if count == 1:
        x, y = round((width - side) / 2), round((height - side) / 2)
        return [Crop(x, y, side, side)]
    five = [Crop(x, y, side, side) for x, y in places(5, width, height, (side, side))]
    if count == 5:
        return five
    return [*five, *(Crop(c.x, c.y, c.width, c.height, True) for c in five)]
