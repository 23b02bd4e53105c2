"""Clips in a given order -> samples, chunks of one worker, and batches of one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.store.compiled_reader import Part
from flowpipe.tsn.data.crops import Crop
from flowpipe.tsn.data.photometric import PhotometricChanges
from flowpipe.tsn.data.reading import PackedImages

Number = tuple[int, int]
"""(epoch, position in the data set) of a sample; with the seed it determines all random draws."""


@dataclass(frozen=True)
class Sample:
    """Crop, photometric changes and labels of one clip as a training step receives it."""

    crop: Crop
    """Crop within `part`; within the whole image if that is scaled first."""
    part: Part
    """Rows and columns of the stored images that were read: top, bottom, left, right."""
    size: tuple[int, int]
    """Height and width of the stored images, pixels."""
    labels: tuple[int, ...]
    changes: PhotometricChanges = PhotometricChanges()
    """Colour jitter and mixup; none in validation."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of a batch, read by one worker."""

    packed: PackedImages
    samples: tuple[Sample, ...]
    mixes: bool = False
    """True if mixup mixes each video of the batch with the next one."""

    def pin_memory(self) -> Chunk:
        """Return the chunk in pinned memory, which is copied to a GPU asynchronously."""
        return self._with_memory(self.packed.memory.pin_memory())

    def to(self, device: str) -> Chunk:
        """Copy the chunk to a device.

        Parameters
        ----------
        device : str
            Name of the device.

        Returns
        -------
        Chunk
            The copy; its memory is filled asynchronously.
        """
        return self._with_memory(self.packed.memory.to(device, non_blocking=True))

    def _with_memory(self, memory: Tensor) -> Chunk:
        return replace(self, packed=self.packed._replace(memory=memory))


class Batch:
    """Videos of one training or validation step.

    Parameters
    ----------
    chunks : iterable of Chunk
        Chunks of the step, in order.
    """

    images: list[Tensor]
    """Images of each video, uint8 (S * read, C, h, w): the part that its crop needs."""
    samples: list[Sample]
    labels: Tensor
    """Classes, int64 (B, most labels of a video), padded with -1."""
    mixes: bool
    """True if mixup mixes each video with the next one; the last video then serves only that."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        chunks = list(chunks)
        self.images = [images for chunk in chunks for images in chunk.packed.videos()]
        self.samples = [sample for chunk in chunks for sample in chunk.samples]
        labels = labels_of([sample.labels for sample in self.samples])
        self.labels = labels.pin_memory() if self.images[0].is_cuda else labels
        self.mixes = chunks[0].mixes

    def __len__(self) -> int:
        """Return the number of videos that are trained on or validated."""
        return len(self.labels) - self.mixes


def labels_of(samples: Sequence[Sequence[int]]) -> Tensor:
    """Return the labels of some samples as a tensor.

    Parameters
    ----------
    samples : sequence of sequence of int
        Classes of each of B samples.

    Returns
    -------
    int64 (B, most labels of a sample)
        Classes, padded with -1.
    """
    most = max(map(len, samples))
    return torch.tensor([[*labels, *[-1] * (most - len(labels))] for labels in samples])


class BatchSampler:
    """Sampler of one process' share of the global batches of an epoch, as lists of numbers.

    Set `epoch` before each pass; set `skip` to leave out its first batches, which resumes an epoch.

    Parameters
    ----------
    count : int
        Number of clips.
    batch_size : int
        Videos of a global batch.
    seed : int
        Seed of the order.
    shuffle : bool
        Shuffle in each epoch, as training does.
    rank, world : int
        Number of this process, and number of processes.
    mixes : bool
        Append the next video of the batch to each share, cyclically, because mixup mixes each video
        with the next one. Shares are then consecutive videos.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        rank: int,
        world: int,
        mixes: bool = False,
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.rank, self.world, self.epoch, self.skip = rank, world, 0, 0
        self.mixes = mixes

    @property
    def sizes(self) -> list[int]:
        """Videos of each global batch. Training drops a batch of fewer videos than processes."""
        full, rest = divmod(self.count, self.batch_size)
        least = self.world if self.shuffle else 1
        return [size for size in (*[self.batch_size] * full, rest) if size >= least]

    def __len__(self) -> int:
        return len(self.sizes) - self.skip

    def __iter__(self) -> Iterator[list[Number]]:
        order = np.arange(self.count)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch, self.count)).permutation(order)
        for k, size in enumerate(self.sizes):
            if k >= self.skip:
                batch = order[k * self.batch_size : k * self.batch_size + size]
                own = [(self.epoch, int(n)) for n in self._share(batch)]
                if own:
                    yield own

    def _share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self.mixes:
            return batch[self.rank :: self.world]
        first, stop = (len(batch) * k // self.world for k in (self.rank, self.rank + 1))
        return np.append(batch[first:stop], batch[stop % len(batch)])
