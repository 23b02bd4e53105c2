"""Store + split -> snippets and labels for any PyTorch trainer: SnippetDataset, SnippetStream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from flowpipe.errors import UsageError
from flowpipe.evaluation.ground_truth import ALL
from flowpipe.splits import split_name, split_names
from flowpipe.store import Store, open_store
from flowpipe.tsn.data.clips import UNLABELLED, Clip, clips_of
from flowpipe.tsn.data.reading import SnippetRequest, read_images
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES, images_of
from flowpipe.tsn.recipe import Sampling
from flowpipe.words import count_noun, unknown_name

Transform = Callable[[Tensor], Any]
Samples = Literal["videos", "instances"]


class _Snippets:
    """Snippets of the clips of one split: what both classes below share."""

    def __init__(
        self,
        store: Store | str | Path,
        modality: str,
        split: str = "train1",
        segments: int = 3,
        length: int = 5,
        *,
        transform: Transform | None = None,
        train: bool = True,
        sampling: Sampling = "tsn_pytorch",
        samples: Samples = "videos",
        labelled: bool = True,
    ) -> None:
        self.store = store if isinstance(store, Store) else open_store(store)
        for kind, name, known in (
            ("modality", modality, self.store.modalities),
            ("sampling", sampling, SAMPLING_STRATEGIES),
            ("samples", samples, get_args(Samples)),
        ):
            if name not in known:
                raise UsageError(f"{self.store.path}: {unknown_name(kind, name, known)}")
        if min(segments, length) < 1:
            raise UsageError(f"segments and length must be at least 1, got {segments} and {length}")
        splits = split_names(self.store.videos.values())
        self.modality, self.split = modality, split if split in splits else split_name(split)
        self.segments, self.length = segments, length
        self.transform, self.train, self.sampling = transform, train, sampling
        self.clips = _find_clips(self.store, self.split, modality, samples, labelled)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.store.path}: {len(self.clips)} samples of split "
            f"{self.split}, {self.segments} snippets of {self.length} {self.modality} images>"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return tuple(self.store.header.class_names)

    @property
    def video_ids(self) -> list[str]:
        """Id of the video of each sample."""
        return [clip.video_id for clip in self.clips]

    @property
    def labels(self) -> list[int]:
        """Label of each sample, as for a weighted sampler."""
        return [clip.labels[0] for clip in self.clips]

    def _read(self, clips: Sequence[Clip]) -> list[tuple[Tensor, int]]:
        """Draw and decode the snippets of some clips, in the order in which they lie on disk."""
        wanted = [
            SnippetRequest(self.store, one.video_id, one.size, self._numbers(one)) for one in clips
        ]
        found = read_images(self.modality, wanted)
        return [
            (images.unflatten(0, (-1, self.length)), clip.labels[0])
            for images, clip in zip(found, clips, strict=True)
        ]

    def _numbers(self, clip: Clip) -> NDArray[np.int64]:
        """Draw the numbers of the images of each snippet, int64 (segments, length)."""
        rule = SAMPLING_STRATEGIES[self.sampling]
        if self.train:
            starts = rule.train(clip.images, self.segments, self.length, _draw)
        else:
            starts = rule.val(clip.images, self.segments, self.length)
        return clip.first + images_of(starts, self.length, clip.images, rule.tail)

    def _transform(self, read: tuple[Tensor, int]) -> tuple[Any, int]:
        images, label = read
        return (self.transform(images) if self.transform else images), label


# Its constructor, which numpydoc does not see, is that of _Snippets.
class SnippetDataset(_Snippets, Dataset[tuple[Any, int]]):  # numpydoc ignore=PR02
    """Snippets and labels of one split of a store: a map-style dataset of PyTorch.

    A sample is a pair ``(images, label)``. ``images`` is a uint8 tensor of shape
    (segments, length, C, H, W); C is 3 (red, green, blue) for rgb and rgb_diff, and 2 (x to the
    right, y down) for flow and warped_flow. ``images.flatten(1, 2)`` is the input of a temporal
    segment network. ``label`` is an int, a place in `class_names`. A video with
    several labels is one sample for each.

    The dataset can be pickled and indexed by several threads. A DataLoader may start its workers by
    fork, spawn or forkserver; a pickled copy opens the store again.

    Parameters
    ----------
    store : Store or path
        An open store, or its folder.
    modality : str
        Modality to read; the store must have it.
    split : str
        Split to read, such as ``train1``; ``train`` means ``train1``. ``all`` reads the videos of
        all splits, and those in none.
    segments : int
        Number of segments; one snippet is taken from each.
    length : int
        Number of consecutive images of a snippet. A video that is too short repeats its last image
        or starts again, as the sampling strategy says.
    transform : callable, optional
        Function of the images of one sample. Its result takes their place. It must be picklable
        where workers are spawned. Transforms of torchvision (v2) accept the images as they are.
    train : bool
        True if snippets start at random; else they are the middle ones, always the same. Random
        numbers come from torch's generator, which a DataLoader seeds for each worker and epoch.
    sampling : {"tsn_pytorch", "caffe", "mmaction2", "dense"}
        Snippet sampling strategy, see `flowpipe.tsn.data.sampling`. Without `train`, ``dense``
        gives ten times as many snippets.
    samples : {"videos", "instances"}
        Kind of samples: whole videos, or labelled instances of untrimmed videos.
    labelled : bool
        True to read labelled videos only. False to read every video of the split: the label of one
        without labels is -1. ``split="all", labelled=False`` reads a store without labels.

    Attributes
    ----------
    clips : list of Clip
        Video id, labels and image range of each sample.
    store : Store
        The open store.

    Raises
    ------
    UsageError
        If the store lacks the modality or the split, or an argument is out of range.
    FormatError
        On reading, if a shard was replaced, cut short or damaged.

    Notes
    -----
    Videos differ in height and width if the recipe keeps the aspect ratio. The transform must then
    crop or resize the images to one size before a DataLoader can stack them.

    Examples
    --------
    >>> import flowpipe, torch
    >>> dataset = flowpipe.SnippetDataset("demo-store", "flow", "train")
    >>> loader = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)
    >>> images, labels = next(iter(loader))
    >>> images.shape[:4]  # height and width follow
    torch.Size([8, 3, 5, 2])
    """

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return the images, uint8 (segments, length, C, H, W), and the label of one sample."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, int]]:
        """Return the samples of a batch; their images are read in the order they lie on disk."""
        return [self._transform(one) for one in self._read([self.clips[i] for i in indices])]


class SnippetStream(_Snippets, IterableDataset[tuple[Any, int]]):
    """Snippets and labels of one split in the order of the shards: an iterable dataset of PyTorch.

    It suits hard disks and network file systems, on which random access is slow. In training the
    shards are read one after the other in random order, and samples are shuffled in a buffer. The
    samples are those of `SnippetDataset`.

    Ranks and the workers of a DataLoader read different parts of the split. In training all ranks
    get equally many samples, and fewer samples than ranks are left out of an epoch. Without `train`
    every sample is read once, in the order of the shards.

    Parameters
    ----------
    store, modality, split, segments, length, transform, train, sampling, samples : as there
        See `SnippetDataset`.
    labelled : bool
        See `SnippetDataset`.
    buffer : int
        Number of decoded samples that a worker holds and draws the next one from; 0 keeps the order
        of the shards.
    seed : int
        Seed of the order of the shards; it must be equal on all ranks.
    rank, world : int, optional
        Number of this process and number of processes. Default: those of `torch.distributed` if it
        is initialised, else 0 and 1.

    Raises
    ------
    UsageError
        As `SnippetDataset`; also if there are fewer samples than ranks.

    Notes
    -----
    Call `set_epoch` before each epoch: otherwise every epoch has the same order of shards.

    Examples
    --------
    >>> import flowpipe, torch
    >>> stream = flowpipe.SnippetStream("demo-store", "flow", "train")
    >>> loader = torch.utils.data.DataLoader(stream, batch_size=8)
    >>> for epoch in range(2):
    ...     stream.set_epoch(epoch)
    ...     for images, labels in loader:
    ...         pass  # train
    """

    def __init__(
        self,
        store: Store | str | Path,
        modality: str,
        split: str = "train1",
        segments: int = 3,
        length: int = 5,
        *,
        transform: Transform | None = None,
        train: bool = True,
        sampling: Sampling = "tsn_pytorch",
        samples: Samples = "videos",
        labelled: bool = True,
        buffer: int = 64,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        super().__init__(
            store, modality, split, segments, length, transform=transform, train=train,
            sampling=sampling, samples=samples, labelled=labelled,
        )  # fmt: skip
        self.rank, self.world = _rank_and_world(rank, world)
        if len(self.clips) < self.world:
            raise UsageError(
                f"split {self.split} has {count_noun(len(self.clips), 'sample')}, too few for "
                f"{self.world} ranks"
            )
        if min(buffer, seed) < 0:
            raise UsageError(f"buffer and seed must not be negative, got {buffer} and {seed}")
        self.buffer, self.seed = buffer, seed
        # In shared memory: workers that live on between epochs see the change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the shards of the next pass, in running workers too.

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 0.
        """
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """Yield the samples of this worker of this rank."""
        worker = get_worker_info()
        own = self.own_samples()
        if worker is not None:
            own = _part_of(own, worker.id, worker.num_workers)
        for read in self._shuffle(self._read([self.clips[i]])[0] for i in own.tolist()):
            yield self._transform(read)

    def own_samples(self) -> NDArray[np.int64]:
        """Return the samples of this rank in the order in which it reads them.

        Returns
        -------
        int64 (samples,)
            Places in `clips`.
        """
        columns = self.store.catalogue.columns
        rows = [self.store.catalogue.find(clip.video_id) for clip in self.clips]
        shards = columns["shard"][rows]
        firsts = columns[f"{self.modality}/first"][rows] + [clip.first for clip in self.clips]
        if not self.train:
            return _part_of(np.lexsort((firsts, shards)), self.rank, self.world)
        rng = np.random.default_rng((self.seed, int(self._epoch)))
        shards = rng.permutation(len(self.store.shards))[shards]
        order = np.lexsort((firsts, shards))
        count = len(order) // self.world
        return order[self.rank * count : (self.rank + 1) * count]

    def _shuffle(self, samples: Iterator[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, int]]:
        """Pass samples on in random order, as far as the buffer reaches."""
        if not self.train:
            yield from samples
            return
        held: list[tuple[Tensor, int]] = []
        for sample in samples:
            held.append(sample)
            if len(held) > self.buffer:
                yield _take_any(held)
        while held:
            yield _take_any(held)


def _find_clips(
    store: Store, split: str, modality: str, samples: Samples, labelled: bool
) -> list[Clip]:
    try:
        return clips_of(store, split, modality, samples, unlabelled=not labelled)
    except UsageError:
        videos = store.videos.values()
        if not labelled and not split_names(videos):
            raise UsageError(
                f"the videos of {store.path} are in no split; read all with split='all'"
            ) from None
        if labelled and samples == "videos" and any(split in (ALL, *v.splits) for v in videos):
            raise UsageError(
                f"no video of split {split} of {store.path} has a label and images; "
                f"labelled=False reads videos without labels too, with label {UNLABELLED}"
            ) from None
        raise


def _draw(bound: int, count: int) -> NDArray[np.int64]:
    drawn: NDArray[np.int64] = torch.randint(bound, (count,)).numpy()
    return drawn


def _take_any(held: list[tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """Remove a random element."""
    k = int(torch.randint(len(held), ()))
    held[k], held[-1] = held[-1], held[k]
    return held.pop()


def _part_of(order: NDArray[np.int64], number: int, count: int) -> NDArray[np.int64]:
    """Return one of `count` consecutive parts of nearly equal length."""
    first, stop = (len(order) * k // count for k in (number, number + 1))
    return order[first:stop]


def _rank_and_world(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise UsageError("give both rank and world, or neither")
    if rank is None or world is None:
        is_spread = distributed.is_available() and distributed.is_initialized()
        return (distributed.get_rank(), distributed.get_world_size()) if is_spread else (0, 1)
    if not 0 <= rank < world:
        raise UsageError(f"rank must be in [0, world = {world}), got {rank}")
    return rank, world
