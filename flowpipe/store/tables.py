"""Store folder -> header, videos, columns, and where the images of a video lie."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeWarning
from flowpipe.modality import MODALITIES
from flowpipe.store import header as headers
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.image_ranges import ImageRange, ImageRanges
from flowpipe.store.index import open_catalogue
from flowpipe.store.video import Videos
from flowpipe.words import count_noun, unknown_name


class StoreTables:
    """Header, videos and columns of an open store.

    Parameters
    ----------
    path : Path
        Folder of the store.
    check : bool
        Compare the CRC of every payload before it is decoded.
    skip_broken : bool
        Leave out shards that cannot be read, instead of raising FormatError.
    refresh : bool
        Write the index if it is missing or outdated and the folder can be written to.
    warn : bool
        Warn of shards that are left out or gone.
    """

    def __init__(
        self,
        path: Path,
        *,
        check: bool = True,
        skip_broken: bool = False,
        refresh: bool = True,
        warn: bool = True,
    ) -> None:
        self.path, self._check = path.absolute(), check
        self._skip_broken = skip_broken
        header = headers.read_store_header(path)
        opened = open_catalogue(
            self.path, header.recipe_digest, refresh=refresh, skip_broken=skip_broken
        )
        self.header = replace(
            header,
            class_names=opened.sources.class_names or header.class_names,
            dataset=dict(opened.sources.dataset or header.dataset),
        )
        self.broken = opened.left_out
        self.lost = opened.sources.lost
        self._catalogue = opened.catalogue
        if warn and (lack := opened.describe_damage(self.path)):
            warnings.warn(lack, FlowpipeWarning, stacklevel=3)
        self._ranges = ImageRanges(self.path, opened.catalogue, check)

    def __repr__(self) -> str:
        videos, shards = len(self.videos), len(self.shards)
        return (
            f"<Store {self.path}: {count_noun(videos, 'video')} in {count_noun(shards, 'shard')}, "
            f"{', '.join(self.modalities) or 'no images'}>"
        )

    @property
    def videos(self) -> Videos:
        """Complete videos by id, in the order of the ids."""
        return Videos(self)

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Ids of split videos of which a part is missing."""
        return self._catalogue.incomplete

    @property
    def shards(self) -> tuple[str, ...]:
        """File names of the shards, in name order."""
        return tuple(facts.name for facts in self._catalogue.shards)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the shards hold, in table order."""
        return tuple(n for n in MODALITIES if f"{n}/count" in self._catalogue.columns)

    @property
    def catalogue(self) -> Catalogue:
        """The tables behind `videos`."""
        return self._catalogue

    def check_recipe(self, digest: str, recipe: Mapping[str, Any] | None = None) -> None:
        """Raise RecipeError unless the store was made with this recipe.

        Parameters
        ----------
        digest : str
            SHA-256 of the recipe.
        recipe : mapping, optional
            JSON values of the recipe; the message lists how the store's own differs.
        """
        headers.check_recipe(self.path, self.header, digest, recipe)

    def quantiser(self, modality: str) -> dict[str, Any]:
        """Return the quantiser of a modality, as the shards record it.

        Parameters
        ----------
        modality : str
            One of `modalities`.

        Returns
        -------
        dict
            ``unit``, ``zero_level`` and more, see FORMAT.md; empty for rgb.

        Raises
        ------
        KeyError
            If the store lacks the modality.
        """
        return dict(self._stream_facts(modality)["quantiser"])

    def codec(self, modality: str) -> dict[str, Any]:
        """Return the codec params of a modality, as the shards record them.

        Parameters
        ----------
        modality : str
            One of `modalities`.

        Returns
        -------
        dict
            ``name`` and settings of the codec.

        Raises
        ------
        KeyError
            If the store lacks the modality.
        """
        return dict(self._stream_facts(modality)["codec"])

    def column(self, video_id: str, modality: str, name: str) -> NDArray[Any]:
        """Return a column of a video, such as ``clipped`` or ``homography``.

        Parameters
        ----------
        video_id : str
            Id of the video.
        modality : str
            One of `modalities`.
        name : str
            Name in ``MODALITIES[modality].columns``.

        Returns
        -------
        array (N, ...)
            One value per image of the video.

        Raises
        ------
        KeyError
            If the store has no such video, modality or column.
        FormatError
            If the shard was replaced, cut short or damaged.
        """
        known = [c.name for c in MODALITIES[modality].columns]
        if name not in known:
            raise KeyError(unknown_name(f"{modality} column", name, known))
        crcs = self._catalogue.columns[f"{modality}/{name}"]
        return np.concatenate(
            [
                self._ranges.shard(one.shard).column(
                    modality, name, one.first, one.end - one.begin, int(crcs[one.row])
                )
                for one in self._find(video_id, modality)
            ]
        )

    def pts_s(self, video_id: str) -> NDArray[np.float64]:
        """Return the timestamps of a video's frames.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        float64 (N,)
            Presentation times, seconds.

        Raises
        ------
        KeyError
            If the store has no such video.
        FormatError
            If the shard was replaced, cut short or damaged.
        """
        row, columns = self._catalogue.find(video_id), self._catalogue.columns
        names = ("shard", "frame_first", "frames", "pts_crc")
        rows = slice(row, row + int(columns["parts"][row]))
        return np.concatenate(
            [
                self._ranges.shard(shard).pts_s(first, count, crc)
                for shard, first, count, crc in zip(
                    *(columns[name][rows].tolist() for name in names), strict=True
                )
            ]
        )

    def explain_missing(self, video_id: str) -> str:
        """Return the reason why the store does not offer a video.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        str
            Reason, for a message.
        """
        if video_id in self.incomplete:
            return f"{video_id!r} lacks parts: run the same extraction again"
        return f"{self.path} has no video {video_id!r}"

    def _find(self, video_id: str, modality: str) -> tuple[ImageRange, ...]:
        """Locate the images of each part of a video."""
        try:
            return self._ranges.find(video_id, modality)
        except KeyError:
            self._stream_facts(modality)  # KeyError if the modality is unknown
            raise KeyError(self.explain_missing(video_id)) from None

    def _stream_facts(self, modality: str) -> dict[str, Any]:
        for facts in self._catalogue.shards:
            if modality in facts.streams:
                return facts.streams[modality]
        raise KeyError(f"{self.path}: {unknown_name('modality', modality, self.modalities)}")
