"""Stored images on the device -> what a network takes of them, in training and in testing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from flowpipe.train_recipe import StreamParams
from flowpipe.tsn.augment import Turned, batch_of, cut, scaled
from flowpipe.tsn.backbones import Row
from flowpipe.tsn.crops import Crop, crops_of, scaled_size
from flowpipe.tsn.inputs import Input


def network_input(
    images: Iterable[Tensor],
    crops: Sequence[Crop],
    input: Input,
    row: Row,
    stream: StreamParams,
    device: str,
) -> Tensor:
    """A crop of each video, in training and validation: float32 (B, S, channels, side, side).

    `images` are uint8 (S * read, C, H, W) of each video, anywhere.
    """
    on_device = [image.to(device, non_blocking=True) for image in images]
    turned: Turned = "x" if input.is_flow else "nothing"
    if input.is_flow and "mmaction2_flip" in stream.compat:
        turned = "mmaction2"
    antialias = stream.augment.antialias
    made = batch_of(on_device, crops, row.size, turned=turned, antialias=antialias)
    return input.normalised(made, row.pixels)


def crops_of_snippets(
    images: Tensor, count: int, input: Input, row: Row, stream: StreamParams
) -> Tensor:
    """Return `count` crops of one video, in testing: float32 (S, count, channels, side, side).

    Parameters
    ----------
    images : uint8 (S * read, C, H, W)
        Whole images on the device, of any size: they are scaled as in validation.
    count : {1, 5, 10}
    """
    turns = input.is_flow and "mmaction2_ten_crop" not in stream.compat
    turned: Turned = "x" if turns else "nothing"
    height, width = images.shape[2:]
    size = scaled_size(width, height, row.size)
    images = scaled(images, *size, antialias=stream.augment.antialias)
    by_crop = [
        input.normalised(
            cut(images, crop, row.size, turned=turned)[None], row.pixels,
            frames_as_colours="tsn_pytorch_diff" in stream.compat,
        )[0]
        for crop in crops_of(count, *size, row.size)
    ]  # fmt: skip
    return torch.stack(by_crop, 1)
