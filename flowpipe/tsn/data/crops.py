"""Image size -> crops: TSN's corner crops with scale jitter for training, its ten crops for tests.

Training crops a share of the stored short side. Validation and tests scale images first, as
tsn-pytorch's GroupScale does, so that a crop is 87.5 % of the short side on a store of any height.
These are pure functions of integers; `augment` scales and crops the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np

from flowpipe.tsn.recipe import AugmentParams

_SNAP_PX = 3
"""Crop sides closer than this to the network's input are set to its side, pixels."""
_MOST_DISTORTION = 1
"""Largest distance in the list of scales between the scale of a crop's width and its height."""
_CANDIDATES = 10
"""Random crops that ``resized`` tries before it falls back to the centre."""
_STEPS = {
    # (horizontal, vertical) offsets, in quarters of the largest offset
    5: ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    13: (
        (0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1),
        (1, 3), (3, 3),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Crop:
    """Rectangle to cut from an image, pixels."""

    x: int
    y: int
    width: int
    height: int
    _: KW_ONLY
    flip: bool = False
    """Mirror the crop horizontally."""
    scaled: tuple[int, int] | None = None
    """Width and height that the image is scaled to before cropping; None to keep its size."""

    def part(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the rows and columns of an image that the crop depends on.

        Parameters
        ----------
        width, height : int
            Size of the image, pixels.

        Returns
        -------
        top, bottom : int
            Rows; the end is exclusive. If the image is scaled first, the margin that the
            scaling filter needs is included.
        left, right : int
            Columns, likewise.
        """
        wide, high = self.scaled or (width, height)
        return (
            *_source_range(self.y, self.height, height, high),
            *_source_range(self.x, self.width, width, wide),
        )


def _source_range(first: int, length: int, stored: int, scaled: int) -> tuple[int, int]:
    """Return the range of stored pixels on which a range of scaled ones depends."""
    if stored == scaled:
        return first, first + length
    step = stored / scaled
    reach = max(1.0, step) + 1
    start, stop = (first + 0.5) * step - reach, (first + length - 0.5) * step + reach
    return max(0, math.floor(start)), min(stored, math.ceil(stop))


def scaled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size to which validation and tests scale an image.

    The short side becomes 256 / 224 of the network's input, rounded down: 256 for 224, 341 for 299.
    The long side is rounded as torchvision rounds it.

    Parameters
    ----------
    width, height : int
        Size of the image, pixels.
    side : int
        Side of the network's input, pixels.

    Returns
    -------
    (width, height)
        Size of the scaled image, pixels.
    """
    short, least = side * 256 // 224, min(width, height)
    return short * width // least, short * height // least


def crop_offsets(
    count: int, width: int, height: int, crop: tuple[int, int]
) -> list[tuple[int, int]]:
    """Return the upper left corners (x, y) of TSN's 5 or 13 crops, in its order.

    Offsets are multiples of a quarter of the largest offset, rounded down, so that the outer crops
    may lie up to three pixels inside the image.

    Parameters
    ----------
    count : {5, 13}
        Number of crops.
    width, height : int
        Size of the image, pixels.
    crop : (width, height)
        Size of the crops, pixels.

    Returns
    -------
    list of (x, y)
        Offsets, pixels.
    """
    step_x, step_y = (width - crop[0]) // 4, (height - crop[1]) // 4
    return [(x * step_x, y * step_y) for x, y in _STEPS[count]]


def sizes(width: int, height: int, scales: Sequence[float], side: int) -> list[tuple[int, int]]:
    """Return the sizes of all crops that scale jitter may draw, in TSN's order.

    Parameters
    ----------
    width, height : int
        Size of the image, pixels.
    scales : sequence of float
        Sides relative to the short side of the image.
    side : int
        Side of the network's input, pixels.

    Returns
    -------
    list of (width, height)
        Sizes, pixels.
    """
    base = min(width, height)
    kept = [int(base * scale) for scale in scales]
    kept = [side if abs(size - side) < _SNAP_PX and side <= base else size for size in kept]
    return [
        (w, h)
        for i, h in enumerate(kept)
        for j, w in enumerate(kept)
        if abs(i - j) <= _MOST_DISTORTION
    ]


def largest_crop_pixels(params: AugmentParams, width: int, height: int, side: int) -> int:
    """Return the size of the largest crop that `random_crop` may draw.

    Parameters
    ----------
    params : AugmentParams
        Kind and range of the crops.
    width, height : int
        Size of the image, pixels.
    side : int
        Side of the network's input, pixels.

    Returns
    -------
    int
        Number of its pixels.
    """
    if params.crops == "resized":
        return width * height
    return max(w * h for w, h in sizes(width, height, params.scales, side))


def random_crop(
    params: AugmentParams, width: int, height: int, side: int, rng: np.random.Generator
) -> Crop:
    """Draw a training crop, shared by all images of a video.

    Parameters
    ----------
    params : AugmentParams
        Kind and range of the crops.
    width, height : int
        Size of the image, pixels.
    side : int
        Side of the network's input, pixels.
    rng : Generator
        Source of the random numbers.

    Returns
    -------
    Crop
        The crop.
    """
    if params.crops == "resized":
        crop = resized_crop(params, width, height, rng)
        return replace(crop, flip=params.flip and bool(rng.integers(2)))
    pairs = sizes(width, height, params.scales, side)
    w, h = pairs[int(rng.integers(len(pairs)))]
    if params.crops == "random":
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    else:
        there = crop_offsets(int(params.crops), width, height, (w, h))
        x, y = there[int(rng.integers(len(there)))]
    return Crop(x, y, w, h, flip=params.flip and bool(rng.integers(2)))


def resized_crop(params: AugmentParams, width: int, height: int, rng: np.random.Generator) -> Crop:
    """Draw a crop of random area and aspect ratio, as mmaction2's RandomResizedCrop.

    The first of ten candidate sizes that fits the image gets a random position. If none fits, the
    crop is the largest central square.

    Parameters
    ----------
    params : AugmentParams
        Range of area and aspect ratio.
    width, height : int
        Size of the image, pixels.
    rng : Generator
        Source of the random numbers.

    Returns
    -------
    Crop
        The crop, not mirrored.
    """
    (least, most), (narrow, wide) = params.area, np.log(params.aspect)
    aspects = np.exp(rng.uniform(narrow, wide, size=_CANDIDATES))
    areas = rng.uniform(least, most, size=_CANDIDATES) * (width * height)
    widths = np.round(np.sqrt(areas * aspects)).astype(int).clip(1).tolist()
    heights = np.round(np.sqrt(areas / aspects)).astype(int).clip(1).tolist()
    for w, h in zip(widths, heights, strict=True):
        if w <= width and h <= height:
            return Crop(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
    side = min(width, height)
    return Crop((width - side) // 2, (height - side) // 2, side, side)


def crops_of(count: int, width: int, height: int, side: int) -> list[Crop]:
    """Return the crops of a test.

    Parameters
    ----------
    count : {1, 5, 10}
        1: the centre, as torchvision rounds it. 5: corners and centre. 10: these and their
        mirrors.
    width, height : int
        Size of the image, pixels: `scaled_size` in validation and tests.
    side : int
        Side of the network's input, pixels.

    Returns
    -------
    list of Crop
        The crops, in TSN's order.
    """
    if count == 1:
        x, y = round((width - side) / 2), round((height - side) / 2)
        return [Crop(x, y, side, side)]
    five = [Crop(x, y, side, side) for x, y in crop_offsets(5, width, height, (side, side))]
    if count == 5:
        return five
    return [*five, *(Crop(c.x, c.y, c.width, c.height, flip=True) for c in five)]


def whole_of(width: int, height: int) -> Crop:
    """Return the crop that is the whole image, for spectrograms.

    Parameters
    ----------
    width, height : int
        Size of the image, pixels.

    Returns
    -------
    Crop
        The whole image in its own size.
    """
    return Crop(0, 0, width, height)


def centre_of(width: int, height: int, side: int) -> Crop:
    """Return the crop of validation: the centre of the image after it is scaled.

    Parameters
    ----------
    width, height : int
        Size of the image, pixels.
    side : int
        Side of the network's input, pixels.

    Returns
    -------
    Crop
        Crop of the scaled image.
    """
    size = scaled_size(width, height, side)
    (crop,) = crops_of(1, *size, side)
    return crop if size == (width, height) else replace(crop, scaled=size)
