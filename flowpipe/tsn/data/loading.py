"""Clips + batches of numbers -> batches on a device, prefetched by worker processes.

Workers send a batch in chunks of bounded size, each in one block of shared memory. So the number of
file descriptors and the use of /dev/shm do not depend on the number of videos in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from flowpipe.errors import BackendError, FlowpipeError
from flowpipe.tsn.data.batches import Batch, BatchSampler, Chunk, Number
from flowpipe.tsn.data.clips import Clips
from flowpipe.tsn.data.limits import FEWER, LoaderNeeds, check_limits

CHUNK_BYTES = 32 << 20
"""Size of a chunk, unless one video needs more."""


class _ChunkRequest(NamedTuple):
    """Numbers of the samples that one worker reads together."""

    numbers: Sequence[Number]
    is_last: bool
    """True if these samples are the last ones of their batch."""


class _ChunkSampler:
    """Sampler that cuts the batches of a pass into chunks of at most `length` samples."""

    def __init__(self, batches: BatchSampler, length: int) -> None:
        self.batches, self.length = batches, length

    def __iter__(self) -> Iterator[_ChunkRequest]:
        for batch in self.batches:
            for first in range(0, len(batch), self.length):
                last = first + self.length >= len(batch)
                yield _ChunkRequest(batch[first : first + self.length], last)


class _ChunkDataset(Dataset[Any]):
    """Data set of chunks for DataLoader; errors are returned, for the training process to raise.

    DataLoader would raise its own error, with the worker's traceback as its message.
    """

    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __getitems__(self, asked: _ChunkRequest) -> tuple[Chunk | Exception, bool]:
        try:
            return self.clips.read(asked.numbers), asked.is_last
        except MemoryError as error:
            return BackendError(f"a worker is out of memory: {error}; {FEWER}"), True
        except (FlowpipeError, OSError) as error:
            return error, True


class Loader:
    """Iterable over the batches of a pass over clips.

    Parameters
    ----------
    clips : Clips
        Clips to read.
    batches : BatchSampler
        Order of the samples.
    workers : int
        Worker processes that prefetch and persist between passes; 0 reads in this process.
    device : str
        Device that the images are copied to.

    Attributes
    ----------
    need : LoaderNeeds or None
        Upper bounds of what its workers need; None without workers.

    Raises
    ------
    BackendError
        If shared memory or file descriptors do not suffice for the workers.
    """

    def __init__(self, clips: Clips, batches: BatchSampler, workers: int, device: str) -> None:
        self.clips, self.device = clips, device
        chunk = max(1, CHUNK_BYTES // clips.most_bytes)
        share = -(-batches.batch_size // batches.world) + batches.mixes
        chunks = -(-share // chunk)
        # A whole batch is read ahead, and each worker has one chunk more to do.
        ahead = max(2, -(-chunks // workers) + 1) if workers else None
        self.need: LoaderNeeds | None = None
        if ahead:
            held = 2 * chunks if device == "cpu" else 1  # the batch in use and the next one
            most = min(chunk, share) * clips.most_bytes
            self.need = LoaderNeeds(workers, ahead * workers + held, most)
            check_limits(self.need)
        self._loader: DataLoader[Any] = DataLoader(
            _ChunkDataset(clips),
            batch_sampler=_ChunkSampler(batches, chunk),  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_pass_on,
            persistent_workers=workers > 0,
            prefetch_factor=ahead,
            pin_memory=device != "cpu",
            # Without its own generator each pass would advance the generator of the dropout, and a
            # resumed pass once more.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Batch]:
        chunks: list[Chunk] = []
        for chunk, is_last in self._loader:
            if isinstance(chunk, Exception):
                try:
                    raise chunk
                finally:
                    del chunk  # else a cycle of references would keep the workers
            chunks.append(chunk.to(self.device))
            if is_last:
                batch = Batch(chunks)
                chunks = []
                del chunk  # or its memory would outlive the batch
                yield batch
                del batch


def _pass_on(chunk: Any) -> Any:
    """Return a chunk unchanged: `Clips` has already collated it."""
    return chunk
