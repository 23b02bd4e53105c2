"""Images on the device -> crops of one size; all images of a video have the same crop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from flowpipe.store.compiled_reader import Part
from flowpipe.tsn.data.crops import Crop

Turned = Literal["nothing", "x", "mmaction2"]
"""Channels that a horizontal flip negates (255 - q): none for RGB, x for flow, or x and y of every
second flow field, as mmaction2 1.x does."""


def crop_and_resize(
    images: Tensor, crop: Crop, side: int | None, *, turned: Turned, antialias: bool = True
) -> Tensor:
    """Crop all images of a video alike, resize the crops and mirror them if the crop says so.

    Parameters
    ----------
    images : uint8 (N, C, H, W)
        Images of one video.
    crop : Crop
        Position and size of the crop, and whether it is mirrored.
    side : int or None
        Side of the result, pixels; None to keep the size of the crop.
    turned : {"nothing", "x", "mmaction2"}
        Channels that mirroring negates.
    antialias : bool
        Antialias when shrinking, as PIL's filter does and OpenCV's does not.

    Returns
    -------
    uint8 (N, C, side, side)
        Equal to the result of PIL's bilinear filter up to one level.
    """
    if crop.scaled:
        images = scale(images, *crop.scaled, antialias=antialias)
    part = images[:, :, crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    if side is not None and part.shape[2:] != (side, side):
        part = _resize(part, side, side, antialias)
    if crop.flip:
        part = part.flip(3)
        if turned == "x":
            part = torch.cat([255 - part[:, :1], part[:, 1:]], 1)
        elif turned == "mmaction2":
            part[::2] = 255 - part[::2]  # in place: flip has made a copy
    return part


def batch_of(
    videos: Iterable[Tensor],
    crops: Sequence[Crop],
    side: int | None,
    *,
    turned: Turned,
    antialias: bool = True,
) -> Tensor:
    """Crop each video to one size.

    Parameters
    ----------
    videos : iterable of uint8 (N, C, H, W)
        Images of each of B videos, which may differ in size.
    crops : sequence of Crop
        Crop of each video.
    side : int or None
        Side of the result, pixels; None to keep the size of the crops.
    turned : {"nothing", "x", "mmaction2"}
        Channels that mirroring negates.
    antialias : bool
        Antialias when shrinking, as PIL's filter does and OpenCV's does not.

    Returns
    -------
    uint8 (B, N, C, side, side)
        Crops of all videos.
    """
    return torch.stack(
        [
            crop_and_resize(video, crop, side, turned=turned, antialias=antialias)
            for video, crop in zip(videos, crops, strict=True)
        ]
    )


def pad_to_image(images: Tensor, part: Part, size: tuple[int, int]) -> Tensor:
    """Pad a part of some images to whole images with zeros.

    Parameters
    ----------
    images : uint8 (N, C, h, w)
        Part of each image.
    part : (top, bottom, left, right)
        Rows and columns of the whole images that `images` hold.
    size : (H, W)
        Size of the whole images, pixels.

    Returns
    -------
    uint8 (N, C, H, W)
        Whole images.
    """
    top, bottom, left, right = part
    shape = (*images.shape[:2], *size)
    layout = torch.channels_last if images.stride(1) == 1 else torch.contiguous_format
    whole = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=layout)
    whole.zero_()[:, :, top:bottom, left:right] = images
    return whole


def scale(images: Tensor, width: int, height: int, *, antialias: bool = True) -> Tensor:
    """Scale images.

    Parameters
    ----------
    images : uint8 (N, C, H, W)
        Images.
    width, height : int
        Wanted size, pixels.
    antialias : bool
        Antialias when shrinking, as PIL's filter does and OpenCV's does not.

    Returns
    -------
    uint8 (N, C, height, width)
        Scaled images; the same tensor if it has that size already.
    """
    if images.shape[2:] == (height, width):
        return images
    return _resize(images, height, width, antialias)


def _resize(images: Tensor, height: int, width: int, antialias: bool) -> Tensor:
    """Resize uint8 images with PIL's bilinear filter, or OpenCV's without `antialias`."""
    options: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "antialias": antialias}
    if images.device.type == "cpu":
        if images.shape[1] != 3:  # torch is fast on planes and on interleaved RGB
            images = images.contiguous()
        return functional.interpolate(images, (height, width), **options)
    resized = functional.interpolate(images.float(), (height, width), **options)
    return resized.round_().clamp_(0, 255).to(torch.uint8)
