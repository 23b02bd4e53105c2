"""(video, modality) -> the images' ranges in shards, which are opened when first read."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import NamedTuple

from flowpipe.store import layout
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.shard_file import OpenShard

_REMEMBERED = 1 << 16


class ImageRange(NamedTuple):
    """Images ``begin .. end`` of a video, which one entry of a shard holds."""

    begin: int
    end: int
    shard: int
    """Number of the shard in the catalogue."""
    first: int
    """Number of image `begin` in the shard's stream."""
    row: int
    """Row of the catalogue."""
    size: tuple[int, int]
    """Height and width of the images, pixels."""


class ImageRanges:
    """Ranges of the images of a store, each looked up once, and its open shards.

    Threads may share it.

    Parameters
    ----------
    path : Path
        Folder of the store.
    catalogue : Catalogue
        Tables of the store.
    check : bool
        Compare offsets and CRCs of the images with the catalogue when a range is looked up.

    Attributes
    ----------
    most_open : int
        Most shards that are open at once: a quarter of the limit of the process.
    """

    def __init__(self, path: Path, catalogue: Catalogue, check: bool) -> None:
        self._path, self._catalogue, self._check = path, catalogue, check
        self._open: dict[int, OpenShard] = {}
        self._ranges: dict[tuple[str, str], tuple[ImageRange, ...]] = {}
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most_open = max(16, (1 << 16 if soft < 0 else soft) // 4)

    def find(self, video_id: str, modality: str) -> tuple[ImageRange, ...]:
        """Locate the images of each part of a video.

        Parameters
        ----------
        video_id : str
            Id of the video.
        modality : str
            Modality of the images, a column group of the catalogue.

        Returns
        -------
        tuple of ImageRange
            One range per part, in order.

        Raises
        ------
        KeyError
            If the catalogue has no such video or modality.
        FormatError
            If offsets or CRCs of the images are damaged.
        """
        key = video_id, modality
        ranges = self._ranges.get(key)
        if ranges is None:
            columns, row = self._catalogue.columns, self._catalogue.find(video_id)
            begin, made = 0, []
            for r in range(row, row + int(columns["parts"][row])):
                count = int(columns[f"{modality}/count"][r])
                first, shard = int(columns[f"{modality}/first"][r]), int(columns["shard"][r])
                if count and self._check:
                    crc = int(columns[f"{modality}/tables"][r])
                    self.shard(shard).check_tables(modality, first, count, crc)
                height, width = (int(columns[f"{modality}/{n}"][r]) for n in ("height", "width"))
                made.append(ImageRange(begin, begin + count, shard, first, r, (height, width)))
                begin += count
            if len(self._ranges) >= _REMEMBERED:
                self._ranges.clear()
            ranges = self._ranges[key] = tuple(made)
        return ranges

    def shard(self, number: int) -> OpenShard:
        """Return an open shard; the one that was opened first is closed if too many are open.

        Parameters
        ----------
        number : int
            Number of the shard in the catalogue.

        Returns
        -------
        OpenShard
            The shard.

        Raises
        ------
        FormatError
            If it cannot be opened, or was replaced after the store was opened.
        """
        shard = self._open.get(number)
        if shard is None:
            facts = self._catalogue.shards[number]
            shard = OpenShard(self._path / layout.SHARDS_FOLDER / facts.name, facts)
            while len(self._open) >= self.most_open:
                # A reader in another thread keeps its shard alive until it has finished.
                oldest = next(iter(self._open), None)
                if oldest is not None:
                    self._open.pop(oldest, None)
            self._open[number] = shard
        return shard
