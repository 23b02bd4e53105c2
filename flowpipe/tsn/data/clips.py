"""Store + split -> batches: snippets of videos as they are stored, their crops and labels.

The random draws of a sample depend only on the seed, the epoch and its number, not on the loader's
workers or on how many processes share a batch. So a run can be resumed at any step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.errors import UsageError
from flowpipe.evaluation.ground_truth import ALL
from flowpipe.modality import MODALITIES
from flowpipe.splits import split_names, validation_split
from flowpipe.store import Store, Video, open_store
from flowpipe.store.compiled_reader import Part
from flowpipe.tsn.data.crops import Crop, centre_of, largest_crop_pixels, random_crop
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.data.photometric import PhotometricChanges, draw_changes
from flowpipe.tsn.data.reading import PackedImages, SnippetRequest, read_packed
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES, images_of
from flowpipe.tsn.recipe import AugmentParams
from flowpipe.words import unknown_name


@dataclass(frozen=True)
class Clip:
    """Labelled time span to sample from: a whole video or an instance."""

    video_id: str
    labels: tuple[int, ...]
    """Classes of the clip; exactly one unless the loss is ``bce``."""
    first: int
    """Number of its first image, from 0."""
    images: int
    """Number of its images."""
    size: tuple[int, int]
    """Height and width of the images, pixels."""
    store: int = 0
    """Number of its store among those that are trained on."""


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
        """Return the chunk on a device."""
        return self._with_memory(self.packed.memory.to(device, non_blocking=True))

    def _with_memory(self, memory: Tensor) -> Chunk:
        return replace(self, packed=self.packed._replace(memory=memory))


class Batch:
    """Videos of one training or validation step."""

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


Number = tuple[int, int]
"""(epoch, position in the data set) of a sample; with the seed it determines all random draws."""


class Clips:
    """Clips of the training or validation half of a split, read by number.

    Parameters
    ----------
    stores : sequence of Path
        Stores that `Clip.store` counts.
    videos : sequence of Clip
    input : InputSpec
    phase : "train" or "val"
        Draw random snippets and crops, or take the central ones.
    segments : int
        Snippets of a sample, S.
    sampling : str
        Sampling strategy, a key of `SAMPLING_STRATEGIES`.
    augment : AugmentParams
    side : int
        Side of the network's input, pixels.
    seed : int
    """

    def __init__(
        self,
        stores: Sequence[Path],
        videos: Sequence[Clip],
        input: InputSpec,
        *,
        phase: Literal["train", "val"],
        segments: int,
        sampling: str,
        augment: AugmentParams,
        side: int,
        seed: int,
    ) -> None:
        self.stores = [open_store(store) for store in stores]
        self.videos, self.input, self.phase = list(videos), input, phase
        self.segments, self.rule = segments, SAMPLING_STRATEGIES[sampling]
        self.augment, self.side, self.seed = augment, side, seed

    def __len__(self) -> int:
        return len(self.videos)

    def read(self, numbers: Sequence[Number]) -> Chunk:
        """Read samples, given by their numbers, into one chunk."""
        wanted, samples = [], []
        for number in numbers:
            images, crop = self.draw(number)
            clip = self.videos[number[1]]
            one = SnippetRequest(self.stores[clip.store], clip.video_id, clip.size, images, crop)
            wanted.append(one)
            kept = crop if crop.scaled else replace(crop, x=0, y=0)
            sample = Sample(kept, one.part, clip.size, clip.labels)
            if self.phase == "train":
                changes = draw_changes(self.augment, self.seed, number)
                sample = replace(sample, changes=changes)
            samples.append(sample)
        packed = read_packed(self.input.stored, wanted)
        return Chunk(packed, tuple(samples), self.phase == "train" and self.augment.mixup > 0)

    @property
    def most_bytes(self) -> int:
        """Largest size of a sample, bytes."""
        pixels = 0
        for height, width in {clip.size for clip in self.videos}:
            if self.phase == "train":
                pixels = max(pixels, largest_crop_pixels(self.augment, width, height, self.side))
            else:
                top, bottom, left, right = centre_of(width, height, self.side).part(width, height)
                pixels = max(pixels, (bottom - top) * (right - left))
        channels = MODALITIES[self.input.stored].channels
        return pixels * channels * self.segments * self.input.read

    def draw(self, number: Number) -> tuple[NDArray[np.int64], Crop]:
        """Draw the image numbers, int64 (S, read), and the crop of one sample."""
        clip = self.videos[number[1]]
        rng = np.random.default_rng((self.seed, *number))
        count, length = clip.images, self.input.read
        height, width = clip.size
        if self.phase == "train":
            starts = self.rule.train(
                count, self.segments, length, lambda bound, n: rng.integers(bound, size=n)
            )
            crop = random_crop(self.augment, width, height, self.side, rng)
        else:
            starts = self.rule.val(count, self.segments, length)
            crop = centre_of(width, height, self.side)
        return clip.first + images_of(starts, length, count, self.rule.tail), crop


def clips_of(
    store: Store,
    split: str,
    modality: str,
    samples: Literal["videos", "instances"],
    number: int = 0,
    *,
    several: bool = False,
) -> list[Clip]:
    """Return the clips of a split that have images: videos or their instances.

    Parameters
    ----------
    store : Store
    split : str
    modality : str
        Modality that is read.
    samples : {"videos", "instances"}
    number : int
        Number of the store among those that are trained on.
    several : bool
        Return one clip with all labels of a time span, instead of one clip per label.

    Raises
    ------
    UsageError
        If the split has none; the message lists the splits of the store.
    """
    found = []
    for video_id, video in store.videos.items():
        if split != ALL and split not in video.splits:
            continue
        if samples == "videos":
            count, size = video.images[modality], video.size[modality]
            found += [
                Clip(video_id, (label,), 0, count, size, number) for label in video.labels if count
            ]
        else:
            found += _instances(video, modality, number)
    if not found:
        raise UsageError(_describe_missing(store, split, samples))
    return _merge(found) if several else found


def labels_of(samples: Sequence[Sequence[int]]) -> Tensor:
    """Return the labels of some samples, int64 (B, most labels of a sample), padded with -1."""
    most = max(map(len, samples))
    return torch.tensor([[*labels, *[-1] * (most - len(labels))] for labels in samples])


def _merge(samples: list[Clip]) -> list[Clip]:
    """Merge clips of the same images into one clip with all their labels."""
    labels: dict[Clip, set[int]] = {}
    for clip in samples:
        labels.setdefault(replace(clip, labels=()), set()).update(clip.labels)
    return [replace(clip, labels=tuple(sorted(found))) for clip, found in labels.items()]


def splits_of(store: Store, number: int) -> dict[Literal["train", "val"], str]:
    """Return the splits of a store that training takes, by phase."""
    names = split_names(store.videos.values())
    return {"train": f"train{number}", "val": validation_split(names, number)}


def _describe_missing(store: Store, split: str, samples: str) -> str:
    """Return the error message for a split without samples."""
    known = split_names(store.videos.values())
    if not any(video.labels for video in store.videos.values()):
        return (
            f"no video of {store.path} has a label, and training needs classes: put the videos of "
            "each class into a folder of its own, or list them as 'path label' lines, and extract "
            "them again with --val-fraction 0.2"
        )
    if samples == "instances" and not any(video.segments for video in store.videos.values()):
        return (
            f"no video of {store.path} has labelled instances; train on whole videos with --set "
            "samples=videos"
        )
    if not known:
        return (
            f"the videos of {store.path} are in no split, so there is no training set: run "
            "the same flowpipe extract again with --val-fraction 0.2, or with --list train=FILE "
            "--list val=FILE; nothing is decoded again"
        )
    if split in known:
        return f"split {split} of {store.path} has no labelled {samples}; known: {', '.join(known)}"
    return f"{store.path}: {unknown_name('split', split, known)}"


def _instances(video: Video, modality: str, number: int) -> list[Clip]:
    """Return the instances of a video that contain images."""
    pts_s, count, size = video.pts_s, video.images[modality], video.size[modality]
    found = []
    for segment in video.segments:
        first, stop = np.searchsorted(pts_s, (segment.start_s, segment.end_s)).tolist()
        if first < min(stop, count):
            images = min(stop, count) - first
            found.append(Clip(video.video_id, (segment.label,), first, images, size, number))
    return found


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
