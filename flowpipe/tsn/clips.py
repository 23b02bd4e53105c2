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
from torch.utils.data import DataLoader, Dataset, get_worker_info

from flowpipe.errors import UsageError
from flowpipe.evaluation.truth import ALL
from flowpipe.modality import MODALITIES
from flowpipe.store import Request, Store, Video, open_store
from flowpipe.store.batch import Part
from flowpipe.train_recipe import AugmentParams
from flowpipe.tsn.crops import Crop, crops_of, random_crop
from flowpipe.tsn.inputs import Input
from flowpipe.tsn.sampling import RULES, images_of


@dataclass(frozen=True)
class Clip:
    """A labelled stretch of a video: all of it, or an instance."""

    video_id: str
    label: int
    first: int
    """Its first image."""
    images: int
    store: int = 0
    """Which of the stores has it."""


@dataclass(frozen=True)
class Batch:
    """Videos as training or validation sees them in one step."""

    images: Tensor | list[Tensor]
    """uint8 (B, S * read, C, H, W), or by video where they differ in size."""
    crops: list[Crop]
    labels: Tensor
    """int64 (B,)"""

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
    rule : str
        A key of `RULES`.
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
        rule: str,
        augment: AugmentParams,
        side: int,
        seed: int,
    ) -> None:
        self.stores = [open_store(store) for store in stores]
        self.videos, self.input, self.phase = list(videos), input, phase
        self.segments, self.rule, self.augment, self.side = segments, RULES[rule], augment, side
        self.seed = seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitems__(self, numbers: Sequence[Number]) -> Batch:
        """The samples of a batch, read together: what DataLoader asks for, as a whole."""
        clips = [self.videos[position] for _, position in numbers]
        drawn = [self.drawn(number) for number in numbers]
        images = read_images(
            self.input.stored,
            [
                (self.stores[clip.store], clip.video_id, wanted)
                for clip, (wanted, _) in zip(clips, drawn, strict=True)
            ],
            [crop for _, crop in drawn],
        )  # fmt: skip
        labels = torch.tensor([clip.label for clip in clips])
        return Batch(images, [crop for _, crop in drawn], labels)

    def drawn(self, number: Number) -> tuple[NDArray[np.int64], Crop]:
        """Numbers of the images, (S, read), and the crop of one sample."""
        clip = self.videos[number[1]]
        rng = np.random.default_rng((self.seed, *number))
        count, length = clip.images, self.input.read
        height, width = self.stores[clip.store].videos[clip.video_id].size[self.input.stored]
        if min(height, width) < self.side:
            raise UsageError(
                f"{clip.video_id} is stored with {width}x{height} pixels and the network takes "
                f"{self.side}x{self.side}: extract with --short-side or --size"
            )
        if self.phase == "train":
            starts = self.rule.train(
                count, self.segments, length, lambda bound, n: rng.integers(bound, size=n)
            )
            crop = random_crop(self.augment, width, height, self.side, rng)
        else:
            starts = self.rule.val(count, self.segments, length)
            (crop,) = crops_of(1, width, height, self.side)
        return clip.first + images_of(starts, length, count, self.rule.tail), crop


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


def clips_of(
    store: Store,
    split: str,
    modality: str,
    samples: Literal["videos", "instances"],
    number: int = 0,
) -> list[Clip]:
    """The samples of a split that have images: each label of a video, or each of its instances.

    `number` is that of the store among those that are trained on.

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
            count = video.images[modality]
            found += [Clip(video_id, label, 0, count, number) for label in video.labels if count]
        else:
            found += _instances(video, modality, number)
    if not found:
        known = sorted({name for video in store.videos.values() for name in video.splits})
        raise UsageError(
            f"{store.path} has no labelled {samples} of split {split}; it has: "
            f"{', '.join(known) or 'no splits'}"
        )
    return found


def _instances(video: Video, modality: str, number: int) -> list[Clip]:
    """Segments of a video with the images that lie in them; none of those without."""
    pts_s, count = video.pts_s, video.images[modality]
    found = []
    for segment in video.segments:
        first, stop = np.searchsorted(pts_s, (segment.start_s, segment.end_s)).tolist()
        if first < min(stop, count):
            images = min(stop, count) - first
            found.append(Clip(video.video_id, segment.label, first, images, number))
    return found


class Batches:
    """Global batches of an epoch, of which each of `world` processes takes its share.

    An iterable of lists of numbers, for ``DataLoader(batch_sampler=...)``. The next pass is of
    `epoch` and leaves out its first `skip` batches, which resumes an epoch.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, shuffle: bool, rank: int, world: int
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.rank, self.world, self.epoch, self.skip = rank, world, 0, 0

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
                own = [(self.epoch, int(n)) for n in batch[self.rank :: self.world]]
                if own:
                    yield own


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
