"""Store + split -> batches: snippets of videos as they are stored, their crops and labels.

What is drawn for a sample depends on the seed, the epoch and its number alone: not on the workers
of the loader, nor on how many processes share a batch. So a run can be resumed anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowpipe.errors import UsageError
from flowpipe.evaluation.truth import ALL
from flowpipe.store import Store, Video, open_store
from flowpipe.train_recipe import AugmentParams
from flowpipe.tsn.crops import Crop, centre_of, random_crop
from flowpipe.tsn.inputs import Input
from flowpipe.tsn.photometric import Changes, random_changes
from flowpipe.tsn.reading import Wanted, read_images
from flowpipe.tsn.sampling import RULES, images_of


@dataclass(frozen=True)
class Clip:
    """A labelled stretch of a video: all of it, or an instance."""

    video_id: str
    labels: tuple[int, ...]
    """Classes; one of them unless each class has a loss of its own."""
    first: int
    """Its first image."""
    images: int
    size: tuple[int, int]
    """Height and width of the images."""
    store: int = 0
    """Which of the stores has it."""


@dataclass(frozen=True)
class Batch:
    """Videos as training or validation sees them in one step."""

    images: Tensor | list[Tensor]
    """uint8 (B, S * read, C, H, W), or by video where they differ in size."""
    crops: list[Crop]
    labels: Tensor
    """Classes, int64 (B, most labels of a video); -1 where a video has fewer."""
    changes: list[Changes]
    """Changes of colour and mixtures of each video; empty for none."""
    mixes: bool = False
    """Whether each video is mixed with the next one; the last one is there for that alone."""

    def __len__(self) -> int:
        """Return the number of videos that are trained on or validated."""
        return len(self.labels) - self.mixes

    def pin_memory(self) -> Batch:
        """In memory that travels to a GPU while the CPU goes on."""
        images = self.images
        pinned = (
            [one.pin_memory() for one in images] if isinstance(images, list) else
            images.pin_memory()
        )  # fmt: skip
        return replace(self, images=pinned, labels=self.labels.pin_memory())


Number = tuple[int, int]
"""(epoch, position in the data set): what a sample is drawn from."""


class Clips(Dataset[Batch]):
    """The videos of one half of a split.

    Parameters
    ----------
    stores : sequence of Path
        The number of a clip's store is its place here.
    videos : sequence of Clip
    input : Input
    phase : "train" or "val"
        Random snippets and crops, or those in the middle.
    segments : int
    sampling : str
        Sampling strategy, a key of `RULES`.
    augment : AugmentParams
    side : int
        Of the network's input.
    seed : int
    """

    def __init__(
        self,
        stores: Sequence[Path],
        videos: Sequence[Clip],
        input: Input,
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
        self.segments, self.rule = segments, RULES[sampling]
        self.augment, self.side, self.seed = augment, side, seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitems__(self, numbers: Sequence[Number]) -> Batch:
        """The samples of a batch, read together: what DataLoader asks for, as a whole."""
        clips = [self.videos[position] for _, position in numbers]
        drawn = [self.drawn(number) for number in numbers]
        images = read_images(
            self.input.stored,
            [
                Wanted(self.stores[clip.store], clip.video_id, clip.size, *one)
                for clip, one in zip(clips, drawn, strict=True)
            ],
        )
        labels = labels_of([clip.labels for clip in clips])
        crops = [crop for _, crop in drawn]
        if self.phase == "val":
            return Batch(images, crops, labels, [])
        changes = [random_changes(self.augment, self.seed, number) for number in numbers]
        return Batch(images, crops, labels, changes, self.augment.mixup > 0)

    def drawn(self, number: Number) -> tuple[NDArray[np.int64], Crop]:
        """Numbers of the images, (S, read), and the crop of one sample."""
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
    """Return the samples of a split that have images: videos or their instances.

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
        Whether a sample has all labels of its images, or each label is a sample.

    Raises
    ------
    UsageError
        If there are none; the message has the splits that there are.
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
        known = sorted({name for video in store.videos.values() for name in video.splits})
        raise UsageError(
            f"{store.path} has no labelled {samples} of split {split}; it has: "
            f"{', '.join(known) or 'no splits'}"
        )
    return _merged(found) if several else found


def labels_of(samples: Sequence[Sequence[int]]) -> Tensor:
    """Labels of some samples -> int64 (B, most labels of a sample), -1 where one has fewer."""
    most = max(map(len, samples))
    return torch.tensor([[*labels, *[-1] * (most - len(labels))] for labels in samples])


def _merged(samples: list[Clip]) -> list[Clip]:
    """One sample for each stretch of a video, with the labels of all samples that are that one."""
    labels: dict[Clip, set[int]] = {}
    for clip in samples:
        labels.setdefault(replace(clip, labels=()), set()).update(clip.labels)
    return [replace(clip, labels=tuple(sorted(found))) for clip, found in labels.items()]


def _instances(video: Video, modality: str, number: int) -> list[Clip]:
    """Segments of a video with the images that lie in them; none of those without."""
    pts_s, count, size = video.pts_s, video.images[modality], video.size[modality]
    found = []
    for segment in video.segments:
        first, stop = np.searchsorted(pts_s, (segment.start_s, segment.end_s)).tolist()
        if first < min(stop, count):
            images = min(stop, count) - first
            found.append(Clip(video.video_id, (segment.label,), first, images, size, number))
    return found


class Batches:
    """Global batches of an epoch, of which each of `world` processes takes its share.

    An iterable of lists of numbers, for ``DataLoader(batch_sampler=...)``. The next pass is of
    `epoch` and leaves out its first `skip` batches, which resumes an epoch.

    With `mixes` a share is a stretch of the batch and the video after it, the first one again after
    the last one: each video is mixed with the next one, however many processes there are.
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
        """Videos of each global batch. In training each process needs a part of it; a last batch
        of fewer videos is dropped."""
        full, rest = divmod(self.count, self.batch_size)
        least = self.world if self.shuffle else 1
        return [self.batch_size] * full + [rest] * (rest >= least)

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


def _as_it_is(batch: Any) -> Any:
    """`Clips` makes whole batches."""
    return batch


def loader_of(clips: Clips, batches: Batches, workers: int, device: str) -> DataLoader[Any]:
    """Yields `Batch`; reads ahead in `workers` processes that live on between epochs; 0: here."""
    return DataLoader(
        clips,
        batch_sampler=batches,  # whose numbers are pairs
        num_workers=workers,
        collate_fn=_as_it_is,
        persistent_workers=workers > 0,
        pin_memory=device != "cpu",
        # Else each pass would draw from the generator of the dropout, and a resumed one once more.
        generator=torch.Generator(),
    )
