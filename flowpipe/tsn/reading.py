"""Numbers of images in stores -> their pixels, decoded to where a batch is to have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from flowpipe.modality import MODALITIES
from flowpipe.store import Request, Store
from flowpipe.store.batch import Part
from flowpipe.tsn.crops import Crop


class Wanted(NamedTuple):
    """Snippets of a video."""

    store: Store
    video_id: str
    size: tuple[int, int]
    """Height and width of its images, as the store says."""
    numbers: NDArray[np.int64]
    """Of the images of each snippet, (S, read): each snippet is one read."""
    crop: Crop | None = None
    """Crop to decode; pixels that it does not depend on are undefined."""


def read_images(modality: str, wanted: Sequence[Wanted]) -> Tensor | list[Tensor]:
    """Snippets of some videos, decoded to where they are to be.

    Returns
    -------
    uint8 (B, S * read, C, H, W), or a list of (S * read, C, H, W) where videos differ in size
        Views of the images as they are stored: pixels interleaved, or planes side by side.
    """
    channels = MODALITIES[modality].channels
    shapes = []
    for one in wanted:
        height, width = one.size
        shape = (height, width, 3) if channels == 3 else (height, channels * width)
        shapes.append((one.numbers.size, *shape))
    whole = _memory((len(wanted), *shapes[0])) if len(set(shapes)) == 1 else None
    memories = [_memory(shape) for shape in shapes] if whole is None else list(whole)
    _decode(modality, wanted, [memory.numpy() for memory in memories])
    if whole is not None:
        return _as_planes(whole, channels)
    return [_as_planes(memory, channels) for memory in memories]


def _decode(modality: str, wanted: Sequence[Wanted], memories: Sequence[NDArray[np.uint8]]) -> None:
    """Put the images of each snippet where they belong."""
    by_store: dict[Store, tuple[list[Request], list[NDArray[np.uint8]], list[Part]]] = {}
    for (store, video_id, size, numbers, crop), memory in zip(wanted, memories, strict=True):
        requests, outs, parts = by_store.setdefault(store, ([], [], []))
        snippets = memory.reshape(*numbers.shape, *memory.shape[1:])
        height, width = size
        part = crop.part(width, height) if crop else (0, height, 0, width)
        read, firsts, lasts = numbers.shape[1], numbers.min(1).tolist(), numbers.max(1).tolist()
        for k, (first, last, out) in enumerate(zip(firsts, lasts, snippets, strict=True)):
            if last - first + 1 == read:
                requests.append((video_id, modality, first, read))
                outs.append(out)
                parts.append(part)
            else:  # the last image again, or the first ones after it
                there = np.empty((last - first + 1, *out.shape[1:]), np.uint8)
                store.snippet(video_id, modality, first, len(there), there)
                out[...] = there[numbers[k] - first]
    # In a loader's process torch has one thread.
    for store, (requests, outs, parts) in by_store.items():
        store.read_into(requests, outs, parts, torch.get_num_threads())


def _memory(shape: tuple[int, ...]) -> Tensor:
    """uint8; of a loader's process where the process that trains sees it too."""
    memory = torch.empty(shape, dtype=torch.uint8)
    return memory if get_worker_info() is None else memory.share_memory_()


def _as_planes(images: Tensor, channels: int) -> Tensor:
    """Images as they are stored -> planes (..., C, H, W), a view."""
    if channels == 3:
        return images.movedim(-1, -3)
    return images.unflatten(-1, (channels, -1)).movedim(-2, -3)
