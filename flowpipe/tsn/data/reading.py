"""Requests for snippets of stores -> the pixels that their crops need, packed in one buffer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from flowpipe.errors import BackendError
from flowpipe.modality import MODALITIES
from flowpipe.store import Store
from flowpipe.store.compiled_reader import Part
from flowpipe.tsn.data.crops import Crop
from flowpipe.tsn.data.limits import FEWER, MORE_SHARED
from flowpipe.words import byte_size

_ALIGNMENT = 64


class SnippetRequest(NamedTuple):
    """Snippets to read of one video."""

    store: Store
    video_id: str
    size: tuple[int, int]
    """Height and width of the stored images, pixels."""
    numbers: NDArray[np.int64]
    """Image numbers of each snippet, (S, read): each snippet is one read."""
    crop: Crop | None = None
    """Crop whose pixels are needed; None for whole images."""

    @property
    def part(self) -> Part:
        """Rows and columns to decode of each image: top, bottom, left, right."""
        height, width = self.size
        return self.crop.part(width, height) if self.crop else (0, height, 0, width)


class PackedImages(NamedTuple):
    """Images of videos of any sizes, one video after the other in one buffer."""

    memory: Tensor
    """Buffer, uint8 (bytes,); in shared memory if a loader's worker allocated it."""
    shapes: tuple[tuple[int, int, int, int], ...]
    """Shape of each video, (images, C, H, W)."""
    interleaved: bool
    """True if the C values of a pixel are adjacent; else each row holds its C planes in turn."""

    def videos(self) -> list[Tensor]:
        """Return a view of each video: uint8 (images, C, H, W)."""
        result, at = [], 0
        for shape in self.shapes:
            images, channels, height, width = shape
            there = self.memory[at : at + math.prod(shape)]
            result.append(
                there.view(images, height, width, channels).permute(0, 3, 1, 2)
                if self.interleaved else
                there.view(images, height, channels, width).permute(0, 2, 1, 3)
            )  # fmt: skip
            at += _align(math.prod(shape))
        return result

    def as_stored(self) -> list[NDArray[np.uint8]]:
        """Return views as stores decode them: uint8 (images, H, W, 3) or (images, H, C * W)."""
        return [
            view.permute(0, 2, 3, 1).numpy() if self.interleaved else
            view.permute(0, 2, 1, 3).flatten(2).numpy()
            for view in self.videos()
        ]  # fmt: skip


def read_images(modality: str, wanted: Sequence[SnippetRequest]) -> list[Tensor]:
    """Decode the snippets of some videos.

    Parameters
    ----------
    modality : str
        Stored modality.
    wanted : sequence of SnippetRequest
        Images and crop of each video.

    Returns
    -------
    list of uint8 (S * read, C, H, W)
        Images of each video, of the size of its part.

    Raises
    ------
    FormatError
        If a shard was replaced, cut short or damaged.
    """
    return read_packed(modality, wanted).videos()


def read_packed(modality: str, wanted: Sequence[SnippetRequest]) -> PackedImages:
    """Decode snippets of some videos into one buffer.

    Only the part of each image that its crop needs is decoded; pixels are not scaled.

    Parameters
    ----------
    modality : str
        Stored modality.
    wanted : sequence of SnippetRequest
        Images and crop of each video.

    Returns
    -------
    PackedImages
        Images of all videos in one buffer.

    Raises
    ------
    FormatError
        If a shard was replaced, cut short or damaged.
    BackendError
        If a worker cannot allocate shared memory.
    """
    row = MODALITIES[modality]
    shapes = []
    for one in wanted:
        top, bottom, left, right = one.part
        shapes.append((one.numbers.size, row.channels, bottom - top, right - left))
    memory = _memory(sum(_align(math.prod(shape)) for shape in shapes))
    packed = PackedImages(memory, tuple(shapes), row.is_colour)
    by_store: dict[Store, list[tuple[SnippetRequest, NDArray[np.uint8]]]] = {}
    for one, out in zip(wanted, packed.as_stored(), strict=True):
        by_store.setdefault(one.store, []).append((one, out))
    for store, some in by_store.items():
        _decode(store, modality, some)
    return packed


def _decode(
    store: Store, modality: str, videos: Sequence[tuple[SnippetRequest, NDArray[np.uint8]]]
) -> None:
    """Decode the parts of all images into the arrays of their videos."""
    requests, outs, parts = [], [], []
    repeated: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]] = []
    for one, images in videos:
        read = one.numbers.shape[1]
        for k, numbers in enumerate(one.numbers):
            first, last = int(numbers.min()), int(numbers.max())
            out = images[k * read : (k + 1) * read]
            if last - first + 1 != read:  # the tail repeats the last image, or loops to the first
                there = np.empty((last - first + 1, *out.shape[1:]), np.uint8)
                repeated.append((out, there, numbers - first))
                out = there
            requests.append((one.video_id, modality, first, len(out)))
            outs.append(out)
            parts.append(one.part)
    # torch has one thread in a loader's worker.
    store.read_into(requests, outs, parts, torch.get_num_threads())
    for out, there, numbers in repeated:
        out[...] = there[numbers]


def _align(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def _memory(count: int) -> Tensor:
    """Allocate a uint8 tensor (count,), in shared memory if this is a loader's worker."""
    if get_worker_info() is None:
        return torch.empty(count, dtype=torch.uint8)
    try:
        storage = torch.UntypedStorage._new_shared(count)
    except RuntimeError as error:
        raise BackendError(
            f"a worker cannot get {byte_size(count)} of shared memory: {error}; "
            f"{MORE_SHARED.format('2g')}, or {FEWER}"
        ) from error
    return torch.empty(0, dtype=torch.uint8).set_(storage)
