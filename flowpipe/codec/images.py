"""Planes (T, C, H, W) <-> images that a codec stores: RGB, or gray with x left of y."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.modality import are_colours


def image_shape(channels: int, height: int, width: int) -> tuple[int, ...]:
    """Return the shape of the image that planes are stored as.

    Parameters
    ----------
    channels : int
        Number of planes, C.
    height, width : int
        Size of a plane, pixels.

    Returns
    -------
    tuple of int
        (H, W, 3) in colour, else (H, C * W).
    """
    return (height, width, channels) if are_colours(channels) else (height, channels * width)


def planes_to_images(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrange planes as C-contiguous images.

    RGB planes that are a view of (T, H, W, 3) memory are not copied.

    Parameters
    ----------
    planes : uint8 (T, C, H, W)
        Planes; C is 1, 2 or 3.

    Returns
    -------
    uint8
        (T, H, W, 3) for C = 3, (T, H, 2 W) for C = 2, (T, H, W) for C = 1.

    Raises
    ------
    ValueError
        If the planes have another dtype or shape.
    """
    if planes.dtype != np.uint8 or planes.ndim != 4 or planes.shape[1] not in (1, 2, 3):
        raise ValueError(
            f"planes must be uint8 (T, 1 | 2 | 3, H, W), got {planes.dtype} {planes.shape}"
        )
    count, channels, height, width = planes.shape
    if are_colours(channels):
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    side_by_side = planes.transpose(0, 2, 1, 3)
    return np.ascontiguousarray(side_by_side).reshape(count, *image_shape(channels, height, width))


def images_to_planes(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return images as planes: the inverse of `planes_to_images`.

    Parameters
    ----------
    images : uint8 (T, H, W, 3) or (T, H, C * W)
        Channels interleaved, or planes side by side.
    channels : int
        Number of channels, C.

    Returns
    -------
    uint8 (T, C, H, W)
        View of `images`.
    """
    if are_colours(channels):
        return images.transpose(0, 3, 1, 2)
    count, height, width = images.shape
    return images.reshape(count, height, channels, width // channels).transpose(0, 2, 1, 3)
