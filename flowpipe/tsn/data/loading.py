"""Clips + batches of numbers -> batches on a device, read ahead by worker processes.

A batch travels in chunks of bounded size, each in one shared memory, so that neither the number of
file descriptors nor the size of what lies in /dev/shm depends on the number of videos in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from flowpipe.errors import BackendError, FlowpipeError
from flowpipe.tsn.data.clips import Batch, BatchSampler, Chunk, Clips, Number
from flowpipe.tsn.data.limits import FEWER, LoaderNeeds, check_limits

CHUNK_BYTES = 32 << 20
"""Size of a chunk, unless one video needs more."""


class _ChunkRequest(NamedTuple):
    """Samples that one worker is asked to read."""

    numbers: Sequence[Number]
    is_last: bool
    """True if these samples are the last ones of their batch."""


class _ChunkSampler:
    """The batches of a pass, cut into chunks."""

    def __init__(self, batches: BatchSampler, length: int) -> None:
        self.batches, self.length = batches, length

    def __iter__(self) -> Iterator[_ChunkRequest]:
        for batch in self.batches:
            for first in range(0, len(batch), self.length):
                last = first + self.length >= len(batch)
                yield _ChunkRequest(batch[first : first + self.length], last)


class _ChunkDataset(Dataset[Any]):
    """Clips as DataLoader asks for them: a chunk, or the error that the training is to raise.

    DataLoader would raise an error of its own, with the worker's traceback for a message.
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
    """Batches of a pass over clips.

    Attributes
    ----------
    need : Need or None
        What its workers may take; None without workers.

    Parameters
    ----------
    clips : Clips
    batches : Batches
    workers : int
        Processes that read ahead and live on between passes; 0: read here, when asked.
    device : str
        Device that the images are moved to.

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
            collate_fn=_as_it_is,
            persistent_workers=workers > 0,
            prefetch_factor=ahead,
            pin_memory=device != "cpu",
            # Else each pass would draw from the generator of the dropout, and a resumed one once
            # more.
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


def _as_it_is(chunk: Any) -> Any:
    """Return a chunk unchanged: `Clips` makes whole ones."""
    return chunk
