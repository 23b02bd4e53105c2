"""Videos, their windows and the values of their streams -> a file of features, written atomically.

The values are written video by video, so that memory does not depend on the number of videos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import atomic_file
from flowpipe.features.reader import FORMAT, VALUES, VERSION, WINDOW_COLUMNS, StreamFacts
from flowpipe.features.windows import Windows
from flowpipe.types import VideoRecord


@dataclass(frozen=True)
class WindowedVideo:
    """A video with the windows of its rows."""

    record: VideoRecord
    _: KW_ONLY
    frames: int
    """Number of stored frames, N."""
    fps: float
    """Frames per second of the stored frames; 0 for a single frame."""
    start_s: float
    """Timestamp of the first frame, seconds."""
    end_s: float
    """Timestamp of the last frame plus the duration of a frame, seconds."""
    status: str
    """``done`` or ``partial``."""
    windows: Windows


RowValues = Callable[[str, str], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""``values(stream, video_id)``: features (R, D) and scores (R, C) of the rows of a video."""


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
        One at least.
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
        file.attrs.update(format=FORMAT, version=VERSION)
        file["facts"] = _json(facts)  # an attribute must not be larger than 64 kB
        _write_videos(file.create_group("videos"), videos)
        for name in WINDOW_COLUMNS:
            columns = [getattr(video.windows, name) for video in videos]
            file[f"rows/{name}"] = np.concatenate(columns)
        # For readers without this package:
        file["rows/centre_s"] = np.concatenate([video.windows.centre_s for video in videos])
        file["rows/centre_frame"] = np.concatenate([video.windows.centre_frame for video in videos])
        file.create_group("streams", track_order=True)
        for stream in streams:
            group = file.create_group(f"streams/{stream.name}")
            group["facts"] = _json(stream.facts)
            _write_texts(group, "class_names", stream.class_names)
            _write_values(group, stream.name, videos, values)


def _write_videos(group: Any, videos: Sequence[WindowedVideo]) -> None:
    _write_texts(group, "video_id", [video.record.video_id for video in videos])
    _write_texts(group, "status", [video.status for video in videos])
    _write_texts(group, "record", [_json(asdict(video.record)) for video in videos])
    group["row_first"] = np.cumsum([0, *(len(video.windows) for video in videos)], dtype=np.int64)
    group["frames"] = np.array([video.frames for video in videos], np.int64)
    for name in ("fps", "start_s", "end_s"):
        group[name] = np.array([getattr(video, name) for video in videos], np.float64)


def _write_values(
    group: Any, stream: str, videos: Sequence[WindowedVideo], values: RowValues
) -> None:
    total, first = sum(len(video.windows) for video in videos), 0
    tables: list[Any] = []
    for video in videos:
        arrays = values(stream, video.record.video_id)
        tables = tables or [
            group.create_dataset(name, (total, array.shape[1]), "<f4")
            for name, array in zip(VALUES, arrays, strict=True)
        ]
        stop = first + len(video.windows)
        for table, array in zip(tables, arrays, strict=True):
            table[first:stop] = array
        first = stop


def _write_texts(group: Any, name: str, texts: Sequence[str]) -> None:
    group.create_dataset(name, data=list(texts), dtype=h5py.string_dtype("utf-8"))


def _json(values: Any) -> str:
    return json.dumps(values, sort_keys=True)
