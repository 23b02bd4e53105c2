"""Images of a batch on the device -> scaled, cut, resized and mirrored, one draw for a video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from flowpipe.store.compiled_reader import Part
from flowpipe.tsn.data.crops import Crop

Turned = Literal["nothing", "x", "mmaction2"]
"""Channels that a horizontal flip negates (255 - q): none of colours, x of flow, or x and y of
every second field, as mmaction2 1.x does."""


def crop_and_resize(
    images: Tensor, crop: Crop, side: int, *, turned: Turned, antialias: bool = True
) -> Tensor:
    """One crop of all images of a video.

    Parameters
    ----------
    images : uint8 (N, C, H, W)
    crop : Crop
    side : int
        Of the square that comes out.
    turned : {"nothing", "x", "mmaction2"}
    antialias : bool
        Whether shrinking averages, as PIL's filter does and OpenCV's does not.

    Returns
    -------
    uint8 (N, C, side, side)
        As PIL's bilinear filter gives them up to one level.
    """
    if crop.scaled:
        images = scale(images, *crop.scaled, antialias=antialias)
    part = images[:, :, crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    if part.shape[2:] != (side, side):
        part = _resize(part, side, side, antialias)
    if crop.flip:
        part = part.flip(3)
        if turned == "x":
            part = torch.cat([255 - part[:, :1], part[:, 1:]], 1)
        elif turned == "mmaction2":
            part[::2] = 255 - part[::2]  # the copy that flip has made
    return part


def batch_of(
    videos: Iterable[Tensor],
    crops: Sequence[Crop],
    side: int,
    *,
    turned: Turned,
    antialias: bool = True,
) -> Tensor:
    """A crop of each video -> uint8 (B, N, C, side, side); videos may differ in size."""
    return torch.stack(
        [
            crop_and_resize(video, crop, side, turned=turned, antialias=antialias)
            for video, crop in zip(videos, crops, strict=True)
        ]
    )


def pad_to_image(images: Tensor, part: Part, size: tuple[int, int]) -> Tensor:
    """Part of some images -> whole images, black outside of it.

    Parameters
    ----------
    images : uint8 (N, C, h, w)
    part : (top, bottom, left, right)
        Rows and columns that `images` are.
    size : (H, W)

    Returns
    -------
    uint8 (N, C, H, W)
    """
    top, bottom, left, right = part
    shape = (*images.shape[:2], *size)
    layout = torch.channels_last if images.stride(1) == 1 else torch.contiguous_format
    whole = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=layout)
    whole.zero_()[:, :, top:bottom, left:right] = images
    return whole


def scale(images: Tensor, width: int, height: int, *, antialias: bool = True) -> Tensor:
    """uint8 (N, C, H, W) -> the same in another size; the same tensor if it has that size."""
    if images.shape[2:] == (height, width):
        return images
    return _resize(images, height, width, antialias)


def _resize(images: Tensor, height: int, width: int, antialias: bool) -> Tensor:
    """uint8 in and out, with PIL's bilinear filter or OpenCV's."""
    options: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "antialias": antialias}
    if images.device.type == "cpu":
        if images.shape[1] != 3:  # torch is fast on planes, and on interleaved colours
            images = images.contiguous()
        return functional.interpolate(images, (height, width), **options)
    resized = functional.interpolate(images.float(), (height, width), **options)
    return resized.round_().clamp_(0, 255).to(torch.uint8)
