"""Videos, their windows and the values of their streams -> a file of features, written atomically.

The values are written video by video, so that memory does not depend on the number of videos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import atomic_file
from flowpipe.features import file_format as layout
from flowpipe.features.file_format import FeatureVideo, StreamFacts, Table
from flowpipe.features.windows import Windows


@dataclass(frozen=True)
class WindowedVideo:
    """A video with the windows of its rows."""

    video: FeatureVideo
    windows: Windows

    @property
    def video_id(self) -> str:
        """Id of the video."""
        return self.video.record.video_id


RowValues = Callable[[str, str], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""``values(stream, video_id)``: features (R, D) and scores (R, C) of the rows of a video that the
stream has not left out."""


def write_features(
    path: Path,
    facts: Mapping[str, Any],
    videos: Sequence[WindowedVideo],
    streams: Sequence[StreamFacts],
    values: RowValues,
) -> None:
    """Write a file of features.

    Parameters
    ----------
    path : Path
        File to write; an existing one is replaced.
    facts : mapping
        JSON values of the whole file, see `FeatureFile`.
    videos : sequence of WindowedVideo
        The videos; no stream has left out all of them.
    streams : sequence of StreamFacts
        Streams that the file has.
    values : callable
        See `RowValues`; all videos of a stream have the same D and C.

    Raises
    ------
    DiskFullError, UsageError
        If the file cannot be written.
    """
    with atomic_file(path, "features") as draft, h5py.File(draft, "w") as file:
        file.attrs.update({layout.ATTR_FORMAT: layout.FORMAT, layout.ATTR_VERSION: layout.VERSION})
        _write(file, layout.FACTS, facts)  # an attribute must not be larger than 64 kB
        _write_videos(file.create_group(layout.VIDEOS), videos)
        rows = file.create_group(layout.ROWS)
        for table in (*layout.WINDOW_FIELDS, *layout.CENTRES):
            columns = [getattr(video.windows, table.name) for video in videos]
            _write(rows, table, np.concatenate(columns))
        file.create_group(layout.STREAMS, track_order=True)
        for stream in streams:
            group = file[layout.STREAMS].create_group(stream.name)
            _write(group, layout.FACTS, stream.facts)
            _write(group, layout.CLASS_NAMES, stream.class_names)
            _write_values(group, stream, videos, values)


def _write_videos(group: Any, videos: Sequence[WindowedVideo]) -> None:
    _write(group, layout.VIDEO_ID, [video.video_id for video in videos])
    _write(group, layout.RECORD, [_json(asdict(video.video.record)) for video in videos])
    _write(group, layout.ROW_FIRST, np.cumsum([0, *(len(video.windows) for video in videos)]))
    for table in layout.VIDEO_FIELDS:
        _write(group, table, [getattr(video.video, table.name) for video in videos])


def _write_values(
    group: Any, stream: StreamFacts, videos: Sequence[WindowedVideo], values: RowValues
) -> None:
    """Write the rows of a stream; those of videos that it has left out stay NaN."""
    total, first = sum(len(video.windows) for video in videos), 0
    tables: list[Any] = []
    for video in videos:
        stop = first + len(video.windows)
        if video.video_id in stream.left_out:
            first = stop
            continue
        arrays = values(stream.name, video.video_id)
        tables = tables or [
            group.create_dataset(table.name, (total, array.shape[1]), table.dtype, fillvalue=np.nan)
            for table, array in zip(layout.VALUES, arrays, strict=True)
        ]
        for table, array in zip(tables, arrays, strict=True):
            table[first:stop] = array
        first = stop


def _write(group: Any, table: Table, values: Any) -> None:
    if table.dtype == layout.JSON:
        group[table.name] = _json(values)
    elif table.dtype == layout.TEXT:
        texts = h5py.string_dtype("utf-8")
        group.create_dataset(table.name, data=list(values), dtype=texts)
    else:
        group[table.name] = np.asarray(values, table.dtype)


def _json(values: Any) -> str:
    return json.dumps(values, sort_keys=True)
