"""Stored images -> normalised crops on the device, the input of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from flowpipe.tsn.data.batches import Sample
from flowpipe.tsn.data.crops import crops_of, scaled_size
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.data.photometric import jitter
from flowpipe.tsn.network.augment import Turned, batch_of, crop_and_resize, pad_to_image, scale
from flowpipe.tsn.network.backbones import BackboneRow
from flowpipe.tsn.recipe import StreamParams


def network_input(
    images: Iterable[Tensor],
    samples: Sequence[Sample],
    input: InputSpec,
    row: BackboneRow,
    *,
    stream: StreamParams,
    device: str,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the input of a training or validation step: one crop per video.

    Parameters
    ----------
    images : iterable of uint8 (S * read, C, h, w)
        Images of each video on any device: the parts that were read.
    samples : sequence of Sample
        Crops and photometric changes of the videos.
    input : InputSpec
        Input of the network.
    row : BackboneRow
        Row of the backbone.
    stream : StreamParams
        Stream of the recipe.
    device : str
        Device of the result.
    dtype : torch.dtype
        Type of the result.

    Returns
    -------
    dtype (B, S, channels, side, side)
        Normalised snippets; of the stored height and width for spectrograms.
    """
    on_device = (image.to(device, non_blocking=True) for image in images)
    cut_from = (
        pad_to_image(image, sample.part, sample.size) if sample.crop.scaled else image
        for image, sample in zip(on_device, samples, strict=True)
    )
    turned: Turned = "x" if input.is_flow else "nothing"
    if input.is_flow and "mmaction2_flip" in stream.compat:
        turned = "mmaction2"
    antialias = stream.augment.antialias
    crops = [sample.crop for sample in samples]
    side = None if input.is_whole else row.size
    made = batch_of(cut_from, crops, side, turned=turned, antialias=antialias)
    for video, sample in zip(made, samples, strict=True):
        if sample.changes.colours:
            video.copy_(jitter(video, sample.changes.colours))
    return input.normalise(made, row.pixels, dtype=dtype)


def crops_of_snippets(
    images: Tensor,
    count: int,
    at_once: int,
    input: InputSpec,
    *,
    row: BackboneRow,
    stream: StreamParams,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Yield the `count` test crops of one video, a few at a time; spectrograms whole, once.

    Parameters
    ----------
    images : uint8 (S * read, C, H, W)
        Whole images of any size on the device; they are scaled as in validation.
    count : {1, 5, 10}
        Crops of each snippet.
    at_once : int
        Largest number of crops of each snippet in a tensor.
    input : InputSpec
        Input of the network.
    row : BackboneRow
        Row of the backbone.
    stream : StreamParams
        Stream of the recipe.
    dtype : torch.dtype
        Type of the result.

    Yields
    ------
    dtype (S, at_once or fewer, channels, side, side)
        Normalised crops.
    """
    turns = input.is_flow and "mmaction2_ten_crop" not in stream.compat
    turned: Turned = "x" if turns else "nothing"
    height, width = images.shape[2:]
    if input.is_whole:
        yield input.normalise(images[None], row.pixels, dtype=dtype)[0][:, None]
        return
    size = scaled_size(width, height, row.size)
    images = scale(images, *size, antialias=stream.augment.antialias)
    crops = crops_of(count, *size, row.size)
    for first in range(0, count, at_once):
        by_crop = [
            input.normalise(
                crop_and_resize(images, crop, row.size, turned=turned)[None], row.pixels,
                frames_as_colours="tsn_pytorch_diff" in stream.compat, dtype=dtype,
            )[0]
            for crop in crops[first : first + at_once]
        ]  # fmt: skip
        yield torch.stack(by_crop, 1)
