"""Store + windows of videos -> decoded batches of rows, which may come from several videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.features import Windows
from flowpipe.modality import MODALITIES
from flowpipe.store import Store
from flowpipe.tsn.data.reading import SnippetRequest, read_images
from flowpipe.tsn.features.networks import FeatureNetwork

_BATCH_BYTES = 64 << 20
"""Size of the decoded images at which a batch is full, bytes."""


class Piece(NamedTuple):
    """Consecutive rows of one video, decoded."""

    video_id: str
    images: Tensor
    """uint8 (N, C, H, W) on the CPU."""
    row_images: NDArray[np.int64]
    """Indices into `images` of those that each row reads, (R, T)."""
    is_last: bool
    """True if the video has no further rows."""


def decode_batches(
    store: Store, network: FeatureNetwork, work: Iterable[tuple[str, Windows]], rows: int
) -> Iterator[list[Piece]]:
    """Yield batches of rows in the order of the videos.

    Parameters
    ----------
    store : Store
        Store of the videos.
    network : FeatureNetwork
        Network that reads the images.
    work : iterable of (str, Windows)
        Ids of videos, and the windows of their rows.
    rows : int
        Largest number of rows of a batch.

    Yields
    ------
    list of Piece
        Pieces of as many videos as fill the batch.
    """
    batch: list[Piece] = []
    count = size = 0
    for video_id, windows in work:
        video = store.videos[video_id]
        height, width = video.size[network.stored]
        image_bytes = height * width * MODALITIES[network.stored].channels
        numbers = network.images_of_rows(windows, video.centres_s(network.stored))
        most = max(1, _BATCH_BYTES // (image_bytes * numbers.shape[1]))
        first = 0
        while first < len(numbers):
            stop = min(len(numbers), first + min(rows - count, most))
            piece = _decode(store, network.stored, video_id, numbers[first:stop])
            batch.append(piece._replace(is_last=stop == len(numbers)))
            count, size = count + stop - first, size + piece.images.numel()
            first = stop
            if count == rows or size >= _BATCH_BYTES:
                yield batch
                batch, count, size = [], 0, 0
    if batch:
        yield batch


def _decode(store: Store, modality: str, video_id: str, numbers: NDArray[np.int64]) -> Piece:
    """Decode the images of some rows; an image that several rows read is decoded once."""
    size = store.videos[video_id].size[modality]
    there = np.unique(numbers)
    request = SnippetRequest(store, video_id, size, there[:, None])
    images = read_images(modality, [request])[0]
    return Piece(video_id, images, np.searchsorted(there, numbers), False)
