"""Store + split -> clips, and their snippets as they are stored, with crops and labels.

The random draws of a sample depend only on the seed, the epoch and its number, not on the loader's
workers or on how many processes share a batch. So a run can be resumed at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.evaluation.ground_truth import ALL
from flowpipe.modality import MODALITIES
from flowpipe.splits import split_names, validation_split
from flowpipe.store import Store, Video, open_store
from flowpipe.tsn.data.batches import Chunk, Number, Sample
from flowpipe.tsn.data.crops import (
    Crop,
    centre_of,
    largest_crop_pixels,
    random_crop,
    whole_of,
)
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.data.photometric import draw_changes
from flowpipe.tsn.data.reading import SnippetRequest, read_packed
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES, images_of
from flowpipe.tsn.recipe import AugmentParams
from flowpipe.words import unknown_name

UNLABELLED = -1
"""Label of a video that has none."""


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
    _: KW_ONLY
    size: tuple[int, int]
    """Height and width of the images, pixels."""
    store: int = 0
    """Number of its store among those that are trained on."""


class Clips:
    """Clips of the training or validation half of a split, read by number.

    Parameters
    ----------
    stores : sequence of Path
        Stores that `Clip.store` counts.
    videos : sequence of Clip
        Clips of the half of the split.
    input : InputSpec
        Input of the network.
    phase : {"train", "val"}
        Draw random snippets and crops, or take the central ones.
    segments : int
        Snippets of a sample, S.
    sampling : str
        Sampling strategy, a key of `SAMPLING_STRATEGIES`.
    augment : AugmentParams
        Crops and photometric changes.
    side : int
        Side of the network's input, pixels.
    seed : int
        Seed of the run.
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
        """Read samples into one chunk.

        Parameters
        ----------
        numbers : sequence of (epoch, clip)
            Epoch, and number of the clip, of each sample.

        Returns
        -------
        Chunk
            The samples.

        Raises
        ------
        FormatError
            If a shard was replaced, cut short or damaged.
        """
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
            if self.input.is_whole:
                pixels = max(pixels, height * width)
            elif self.phase == "train":
                pixels = max(pixels, largest_crop_pixels(self.augment, width, height, self.side))
            else:
                top, bottom, left, right = centre_of(width, height, self.side).part(width, height)
                pixels = max(pixels, (bottom - top) * (right - left))
        channels = MODALITIES[self.input.stored].channels
        return pixels * channels * self.segments * self.input.read

    def draw(self, number: Number) -> tuple[NDArray[np.int64], Crop]:
        """Draw the snippets and the crop of one sample.

        Parameters
        ----------
        number : (epoch, clip)
            Epoch, and number of the clip.

        Returns
        -------
        numbers : int64 (S, read)
            Numbers of the images of each snippet.
        crop : Crop
            Crop of all of them.
        """
        clip = self.videos[number[1]]
        rng = np.random.default_rng((self.seed, *number))
        count, length = clip.images, self.input.read
        height, width = clip.size
        if self.phase == "train":
            starts = self.rule.train(
                count, self.segments, length, lambda bound, n: rng.integers(bound, size=n)
            )
        else:
            starts = self.rule.val(count, self.segments, length)
        if self.input.is_whole:
            crop = whole_of(width, height)
        elif self.phase == "train":
            crop = random_crop(self.augment, width, height, self.side, rng)
        else:
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
    unlabelled: bool = False,
) -> list[Clip]:
    """Return the clips of a split that have images: videos or their instances.

    Parameters
    ----------
    store : Store
        Open store.
    split : str
        Name of a split, or `ALL`.
    modality : str
        Modality that is read.
    samples : {"videos", "instances"}
        Whether a clip is a whole video or a labelled instance.
    number : int
        Number of the store among those that are trained on.
    several : bool
        Return one clip with all labels of a time span, instead of one clip per label.
    unlabelled : bool
        Include whole videos without labels, with the label `UNLABELLED`.

    Returns
    -------
    list of Clip
        Clips, by video id.

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
            labels = video.labels or (UNLABELLED,) * unlabelled
            found += [
                Clip(video_id, (label,), 0, count, size=size, store=number)
                for label in labels
                if count
            ]
        else:
            found += _instances(video, modality, number)
    if not found:
        raise UsageError(_describe_missing(store, split, samples))
    return _merge(found) if several else found


def _merge(samples: list[Clip]) -> list[Clip]:
    """Merge clips of the same images into one clip with all their labels."""
    labels: dict[Clip, set[int]] = {}
    for clip in samples:
        labels.setdefault(replace(clip, labels=()), set()).update(clip.labels)
    return [replace(clip, labels=tuple(sorted(found))) for clip, found in labels.items()]


def splits_of(store: Store, number: int) -> dict[Literal["train", "val"], str]:
    """Return the splits of a store that training takes.

    Parameters
    ----------
    store : Store
        Open store.
    number : int
        Number of the split, from 1.

    Returns
    -------
    dict of phase to str
        Names of the splits for training and validation.
    """
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
    times_s, count, size = video.times_s(modality), video.images[modality], video.size[modality]
    found = []
    for segment in video.segments:
        first, stop = np.searchsorted(times_s, (segment.start_s, segment.end_s)).tolist()
        if MODALITIES[modality].from_sound and 0 < first == stop:
            first -= 1  # the image that contains a short instance begins before it
        if first < min(stop, count):
            images = min(stop, count) - first
            found.append(
                Clip(video.video_id, (segment.label,), first, images, size=size, store=number)
            )
    return found
