"""Numbers of images in stores -> their pixels, decoded to where a batch is to have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from flowpipe.modality import MODALITIES
from flowpipe.store import Request, Store
from flowpipe.store.batch import Part
from flowpipe.tsn.crops import Crop

Wanted = tuple[Store, str, NDArray[np.int64]]
"""(store, video_id, numbers of the images of each snippet, (S, read), each of which is one read)"""


def read_images(
    modality: str,
    wanted: Sequence[Wanted],
    crops: Sequence[Crop] | None = None,
) -> Tensor | list[Tensor]:
    """Snippets of some videos, decoded to where they are to be.

    Parameters
    ----------
    modality : str
    wanted : sequence of Wanted
    crops : sequence of Crop, optional
        All that is wanted of each video: what is outside of it is left to chance.

    Returns
    -------
    uint8 (B, S * read, C, H, W), or a list of (S * read, C, H, W) where videos differ in size
        Views of the images as they are stored: pixels interleaved, or planes side by side.
    """
    channels = MODALITIES[modality].channels
    shapes = []
    for store, video_id, numbers in wanted:
        height, width = store.videos[video_id].size[modality]
        shape = (height, width, 3) if channels == 3 else (height, channels * width)
        shapes.append((numbers.size, *shape))
    whole = _memory((len(wanted), *shapes[0])) if len(set(shapes)) == 1 else None
    memories = [_memory(shape) for shape in shapes] if whole is None else list(whole)
    _decode(modality, wanted, [memory.numpy() for memory in memories], crops)
    if whole is not None:
        return _as_planes(whole, channels)
    return [_as_planes(memory, channels) for memory in memories]


def _decode(
    modality: str,
    wanted: Sequence[Wanted],
    memories: Sequence[NDArray[np.uint8]],
    crops: Sequence[Crop] | None,
) -> None:
    """Put the images of each snippet where they belong."""
    by_store: dict[Store, tuple[list[Request], list[NDArray[np.uint8]], list[Part]]] = {}
    for number, ((store, video_id, numbers), memory) in enumerate(
        zip(wanted, memories, strict=True)
    ):
        requests, outs, parts = by_store.setdefault(store, ([], [], []))
        snippets = memory.reshape(*numbers.shape, *memory.shape[1:])
        for snippet, out in zip(numbers, snippets, strict=True):
            first, stop = int(snippet.min()), int(snippet.max()) + 1
            if stop - first == len(snippet):
                requests.append((video_id, modality, first, len(snippet)))
                outs.append(out)
                if crops:
                    c = crops[number]
                    parts.append((c.y, c.y + c.height, c.x, c.x + c.width))
            else:  # the last image again, or the first ones after it
                read = np.empty((stop - first, *out.shape[1:]), np.uint8)
                store.snippet(video_id, modality, first, stop - first, read)
                out[...] = read[snippet - first]
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
