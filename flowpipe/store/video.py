"""Video of an open store: counts, timestamps, labels and meta."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.modality import MODALITIES, START_S
from flowpipe.notes import join_notes
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.header import StoreHeader
from flowpipe.types import Interval, VideoRecord
from flowpipe.words import count_noun


class VideoTables(Protocol):
    """Tables that a video is read from; `Store` has them."""

    @property
    def header(self) -> StoreHeader:
        """Recipe, data set and class names."""

    @property
    def catalogue(self) -> Catalogue:
        """Tables of all videos."""

    @property
    def shards(self) -> tuple[str, ...]:
        """File names of the shards."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the shards hold, in table order."""

    def pts_s(self, video_id: str) -> NDArray[np.float64]:
        """Return the timestamps of a video's frames.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        float64 (N,)
            Timestamps, seconds.
        """

    def column(self, video_id: str, modality: str, name: str) -> NDArray[Any]:
        """Return a column of a video.

        Parameters
        ----------
        video_id : str
            Id of the video.
        modality : str
            One of `modalities`.
        name : str
            Name of the column.

        Returns
        -------
        array (N, ...)
            One value per image.
        """

    def explain_missing(self, video_id: str) -> str:
        """Return the reason why a video is not offered.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        str
            Reason, for a message.
        """


class Video:
    """Video of a store; the parts of a split video are joined.

    Parameters
    ----------
    store : VideoTables
        Tables of its store.
    video_id : str
        Id of the video.
    row : int
        Row of its first part in the catalogue.

    Attributes
    ----------
    video_id : str
        Id of the video.
    """

    def __init__(self, store: VideoTables, video_id: str, row: int) -> None:
        self._store, self.video_id, self._row = store, video_id, row

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name} {(count, MODALITIES[name].channels, *self.size[name])}"
            for name, count in self.images.items()
        )
        return f"<Video {self.video_id}: {count_noun(self.frames, 'frame')}, uint8 {shapes}>"

    @property
    def parts(self) -> int:
        """Number of parts that the video was split into."""
        return int(self._store.catalogue.columns["parts"][self._row])

    @property
    def shards(self) -> tuple[str, ...]:
        """File name of the shard of each part."""
        return tuple(self._store.shards[number] for number in self._column("shard"))

    @cached_property
    def frames(self) -> int:
        """Number of stored frames, N."""
        return sum(self._column("frames"))

    @cached_property
    def images(self) -> dict[str, int]:
        """Number of stored images by modality.

        N for images of one frame, N - 1 for those of two, any number for images of sound.
        """
        return {name: sum(self._column(f"{name}/count")) for name in self._store.modalities}

    @cached_property
    def size(self) -> dict[str, tuple[int, int]]:
        """(height, width) of the images by modality, pixels; (0, 0) if there are none."""
        return {
            name: (max(self._column(f"{name}/height")), max(self._column(f"{name}/width")))
            for name in self._store.modalities
        }

    @cached_property
    def pts_s(self) -> NDArray[np.float64]:
        """Timestamps of the frames, seconds, (N,)."""
        return self._store.pts_s(self.video_id)

    def times_s(self, modality: str) -> NDArray[np.float64]:
        """Return the times of the images of a modality, on the clock of `pts_s`.

        Parameters
        ----------
        modality : str
            A modality of the store.

        Returns
        -------
        float64 (N,)
            Time of the first frame of each image, or of the first sample of an image of sound,
            seconds.
        """
        if MODALITIES[modality].from_sound:
            return np.asarray(self._store.column(self.video_id, modality, START_S.name))
        return self.pts_s[: self.images[modality]]

    def centres_s(self, modality: str) -> NDArray[np.float64]:
        """Return the middle of the time of each image, on the clock of `pts_s`.

        Parameters
        ----------
        modality : str
            A modality of the store.

        Returns
        -------
        float64 (N,)
            Time of the frame, mean time of the two frames, or middle of the span of sound, seconds.
        """
        times_s = self.times_s(modality)
        if not MODALITIES[modality].from_sound:
            context = MODALITIES[modality].context
            return (times_s + self.pts_s[context : context + len(times_s)]) / 2
        recipe = self._store.header.recipe
        recipe = recipe.get("imported", {}).get("of", recipe)  # of an export
        hop_s = float(recipe.get("audio", {}).get("hop_s", 0.0))
        return times_s + self.size[modality][1] * hop_s / 2

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Meta object: ``record``, ``source``, ``facts``, ``status``, ``clipped_share`` ...

        A split video has the meta of its first part, with the status of the last and the share of
        clipped values over all parts.
        """
        parts = self.part_metas
        if len(parts) == 1:
            return parts[0]
        status = {key: parts[-1].get(key, "") for key in ("status", "reason")}
        return {**parts[0], **status, "clipped_share": self._clipped_share()}

    @property
    def part_metas(self) -> list[dict[str, Any]]:
        """`meta` of each part, with the current record."""
        catalogue = self._store.catalogue
        return [catalogue.meta(row) for row in range(self._row, self._row + self.parts)]

    @property
    def status(self) -> str:
        """``done``, or ``partial`` if only the frames before damage of the source are stored."""
        return "partial" if any(self._column("partial")) else "done"

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the extraction, ``code`` or ``code:count``, joined over the parts."""
        facts = (meta.get("facts", {}) for meta in self.part_metas)
        return tuple(join_notes(note for of_part in facts for note in of_part.get("notes", ())))

    @property
    def labels(self) -> tuple[int, ...]:
        """Class numbers into ``Store.header.class_names``."""
        return self.record.labels

    @property
    def record(self) -> VideoRecord:
        """Record from the data set: path, labels, splits, segments."""
        return VideoRecord.from_json(self.meta["record"])

    @property
    def subset(self) -> str:
        """Official subset of the data set."""
        return self.record.subset

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that the video is in, such as ``train1``."""
        return self.record.splits

    @property
    def segments(self) -> tuple[Interval, ...]:
        """Labelled intervals, seconds."""
        return self.record.segments

    @property
    def ambiguous(self) -> tuple[tuple[float, float], ...]:
        """Intervals that an evaluation of the segments leaves out, seconds."""
        return self.record.ambiguous

    @property
    def clipped_share(self) -> dict[str, float]:
        """Share of values outside the quantiser's range, 0..1, by modality."""
        return dict(self.meta["clipped_share"])

    @property
    def fps(self) -> float:
        """Frames per second of the stored frames, from their timestamps; 0 for a single frame."""
        pts = self.pts_s
        return float((len(pts) - 1) / (pts[-1] - pts[0])) if len(pts) > 1 else 0.0

    def _column(self, name: str) -> list[int]:
        values: list[int] = self._store.catalogue.columns[name][
            self._row : self._row + self.parts
        ].tolist()
        return values

    def _clipped_share(self) -> dict[str, float]:
        shares: dict[str, float] = {}
        for name, total in self.images.items():
            counts = self._column(f"{name}/count")
            metas = [meta["clipped_share"] for meta in self.part_metas]
            if total and any(name in share for share in metas):
                shares[name] = (
                    sum(s.get(name, 0.0) * n for s, n in zip(metas, counts, strict=True)) / total
                )
        return shares


class Videos(Mapping[str, Video]):
    """Complete videos of a store by id; nothing is read before a property of a video is.

    Parameters
    ----------
    store : VideoTables
        Tables of the store.
    """

    def __init__(self, store: VideoTables) -> None:
        self._store = store

    def __getitem__(self, video_id: str) -> Video:
        try:
            row = self._store.catalogue.find(video_id)
        except KeyError:
            raise KeyError(self._store.explain_missing(video_id)) from None
        return Video(self._store, video_id, row)

    def __iter__(self) -> Iterator[str]:
        ids = self._store.catalogue.ids
        return (ids[row] for row in self._store.catalogue.complete.tolist())

    def __len__(self) -> int:
        return len(self._store.catalogue.complete)
