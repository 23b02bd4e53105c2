"""Numbers of images in stores -> the pixels that crops need of them, packed in one memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from flowpipe.errors import BackendError
from flowpipe.modality import MODALITIES
from flowpipe.store import Store
from flowpipe.store.batch import Part
from flowpipe.tsn.crops import Crop
from flowpipe.tsn.limits import FEWER, MORE_SHARED
from flowpipe.words import byte_size

_SCRATCH_BYTES = 4 << 20
"""Whole images that one thread decodes before their parts are copied: as a cache holds."""
_ALIGNMENT = 64


class Wanted(NamedTuple):
    """Snippets of a video."""

    store: Store
    video_id: str
    size: tuple[int, int]
    """Height and width of its images, as the store says."""
    numbers: NDArray[np.int64]
    """Numbers of the images of each snippet, (S, read): each snippet is one read."""
    crop: Crop | None = None
    """Crop whose pixels are wanted; None for whole images."""

    @property
    def part(self) -> Part:
        """Rows and columns that are wanted of each image: top, bottom, left, right."""
        height, width = self.size
        return self.crop.part(width, height) if self.crop else (0, height, 0, width)


class Packed(NamedTuple):
    """Images of videos, which may differ in size, one video after the other in one memory."""

    memory: Tensor
    """uint8 (bytes,); seen by the training process too if a worker of a loader made it."""
    shapes: tuple[tuple[int, int, int, int], ...]
    """(images, C, H, W) of each video."""
    interleaved: bool
    """Whether the C values of a pixel are neighbours; else the rows of the C planes are."""

    def videos(self) -> list[Tensor]:
        """Return a view of each video: uint8 (images, C, H, W)."""
        return list(self._views())

    def arrays(self) -> list[NDArray[np.uint8]]:
        """Return the same views as arrays."""
        return [view.numpy() for view in self._views()]

    def _views(self) -> Iterator[Tensor]:
        at = 0
        for shape in self.shapes:
            images, channels, height, width = shape
            there = self.memory[at : at + math.prod(shape)]
            if self.interleaved:
                yield there.view(images, height, width, channels).permute(0, 3, 1, 2)
            else:
                yield there.view(images, height, channels, width).permute(0, 2, 1, 3)
            at += _aligned(math.prod(shape))


def read_images(modality: str, wanted: Sequence[Wanted]) -> list[Tensor]:
    """Return the snippets of each video: uint8 (S * read, C, H, W) of the size of its part."""
    return read_packed(modality, wanted).videos()


def read_packed(modality: str, wanted: Sequence[Wanted]) -> Packed:
    """Decode snippets of some videos into one memory.

    Of each image only its part is decoded and kept, with the pixels that it is stored with.

    Raises
    ------
    FormatError
        If a shard was replaced, cut short or damaged.
    BackendError
        If there is no memory that a worker can share.
    """
    channels = MODALITIES[modality].channels
    shapes = []
    for one in wanted:
        top, bottom, left, right = one.part
        shapes.append((one.numbers.size, channels, bottom - top, right - left))
    memory = _memory(sum(_aligned(math.prod(shape)) for shape in shapes))
    packed = Packed(memory, tuple(shapes), channels == 3)
    by_store: dict[Store, list[tuple[Wanted, NDArray[np.uint8]]]] = {}
    for one, out in zip(wanted, packed.arrays(), strict=True):
        by_store.setdefault(one.store, []).append((one, out))
    for store, some in by_store.items():
        _decode(store, modality, some)
    return packed


class _Snippet(NamedTuple):
    """A read of a store, and where the parts of its images belong."""

    request: tuple[str, str, int, int]
    shape: tuple[int, ...]
    """Shape of the whole images, as the store decodes them."""
    part: Part
    numbers: NDArray[np.int64]
    """For each image of the snippet, its number among those that are read."""
    out: NDArray[np.uint8]
    """(read, C, H, W)"""


def _decode(
    store: Store, modality: str, videos: Sequence[tuple[Wanted, NDArray[np.uint8]]]
) -> None:
    """Put the parts of all images where they belong, some snippets at a time."""
    snippets = [snippet for one, out in videos for snippet in _snippets(modality, one, out)]
    order = store.in_disk_order([snippet.request for snippet in snippets])
    # In a worker of a loader torch has one thread.
    threads = torch.get_num_threads()
    limit = max(_SCRATCH_BYTES * threads, *(math.prod(one.shape) for one in snippets))
    scratch = np.empty(limit, np.uint8)
    some: list[_Snippet] = []
    used = 0
    for snippet in (snippets[k] for k in order):
        if used + math.prod(snippet.shape) > limit:
            _decode_into(store, some, scratch, threads)
            some, used = [], 0
        some.append(snippet)
        used += math.prod(snippet.shape)
    _decode_into(store, some, scratch, threads)


def _snippets(modality: str, one: Wanted, out: NDArray[np.uint8]) -> Iterator[_Snippet]:
    channels, (height, width) = MODALITIES[modality].channels, one.size
    image = (height, width, 3) if channels == 3 else (height, channels * width)
    for numbers, into in zip(one.numbers, np.split(out, len(one.numbers)), strict=True):
        first, count = int(numbers.min()), int(np.ptp(numbers)) + 1
        request = one.video_id, modality, first, count
        yield _Snippet(request, (count, *image), one.part, numbers - first, into)


def _decode_into(
    store: Store, snippets: Sequence[_Snippet], scratch: NDArray[np.uint8], threads: int
) -> None:
    """Decode whole images to `scratch` and copy their parts."""
    ends = np.cumsum([math.prod(one.shape) for one in snippets]).tolist()
    wholes = [
        scratch[end - math.prod(one.shape) : end].reshape(one.shape)
        for one, end in zip(snippets, ends, strict=True)
    ]
    store.read_into(
        [one.request for one in snippets], wholes, [one.part for one in snippets], threads
    )
    for one, whole in zip(snippets, wholes, strict=True):
        top, bottom, left, right = one.part
        channels = one.out.shape[1]
        planes = (
            whole.transpose(0, 3, 1, 2) if whole.ndim == 4 else
            whole.reshape(*whole.shape[:2], channels, -1).transpose(0, 2, 1, 3)
        )  # fmt: skip
        part = planes[:, :, top:bottom, left:right]
        if np.array_equal(one.numbers, np.arange(len(part))):
            one.out[...] = part
        else:  # the last image again, or the first ones after it
            for k, number in enumerate(one.numbers):
                one.out[k] = part[number]


def _aligned(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def _memory(count: int) -> Tensor:
    """uint8 (count,); in a worker of a loader one that the training process sees too."""
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
