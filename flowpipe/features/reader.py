"""File of `flowpipe features` -> the windows, features and scores of its videos.

The rows of all streams are the same windows, see `flowpipe.features.windows`. Rows of one video are
adjacent. ``docs/features.md`` describes the data sets of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.errors import FormatError
from flowpipe.features.windows import Windows
from flowpipe.types import VideoRecord

FORMAT, VERSION = "flowpipe features", 1
WINDOW_COLUMNS = ("start_frame", "stop_frame", "start_s", "end_s")
"""Columns of a row that define its window."""
VALUES = ("features", "scores")


@dataclass(frozen=True, kw_only=True)
class FeatureVideo:
    """Video of a file of features."""

    frames: int
    """Number of stored frames, N."""
    fps: float
    """Frames per second of the stored frames; 0 for a single frame."""
    start_s: float
    """Timestamp of the first frame, seconds."""
    end_s: float
    """Timestamp of the last frame plus the duration of a frame, seconds."""
    status: str
    """``done``, or ``partial`` if only the frames before damage of the source are stored."""
    record: VideoRecord
    rows: slice
    """Rows of the video in the data sets of the file."""


@dataclass(frozen=True)
class StreamFacts:
    """One stream of a file of features: what computed it, and the names of its classes."""

    name: str
    class_names: tuple[str, ...]
    """Names of the classes, by column of the scores."""
    facts: Mapping[str, Any]
    """JSON values: ``network``, ``digest``, ``modality``, ``layer``, ``loss`` ..."""


def open_features(path: str | Path) -> FeatureFile:
    """Open a file of `flowpipe features` for reading.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    FeatureFile
        A context manager.

    Raises
    ------
    FormatError
        If the file is missing or is not such a file.
    """
    return FeatureFile(Path(path))


class FeatureFile:
    """Open file of features, a context manager.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    path : Path
        The file.
    facts : dict
        JSON values: ``store``, ``window``, ``stride``, ``crops``, ``left_out`` ...
    videos : dict of str to FeatureVideo
        Videos by id, in the order of the rows.
    streams : dict of str to StreamFacts
        Streams by name.

    Raises
    ------
    FormatError
        If the file is missing or is not a file of features.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _translate_errors(path):
            self._file = h5py.File(path, "r")
            try:
                self._read_tables()
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def windows(self, video_id: str) -> Windows:
        """Return the windows of the rows of a video.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        Windows
            One for each row.

        Raises
        ------
        KeyError
            If the file has no rows of the video.
        """
        rows = self.videos[video_id].rows
        with _translate_errors(self.path):
            first, stop, start_s, end_s = (
                np.asarray(self._file[f"rows/{name}"][rows]) for name in WINDOW_COLUMNS
            )
        return Windows(first, stop, start_s, end_s)

    def features(self, stream: str, video_id: str) -> NDArray[np.float32]:
        """Return the features of the rows of a video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.

        Returns
        -------
        float32 (R, D)
            Output of the layer, the mean over the crops.

        Raises
        ------
        KeyError
            If the file has no rows of the video.
        """
        return self._values(stream, "features", video_id)

    def scores(self, stream: str, video_id: str) -> NDArray[np.float32]:
        """Return the scores of the rows of a video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.

        Returns
        -------
        float32 (R, C)
            Logits, the mean over the crops.

        Raises
        ------
        KeyError
            If the file has no rows of the video.
        """
        return self._values(stream, "scores", video_id)

    def width(self, stream: str, values: str) -> int:
        """Return the number of columns of a stream.

        Parameters
        ----------
        stream : str
            Name of the stream.
        values : {"features", "scores"}
            The columns to count.

        Returns
        -------
        int
            D or C.
        """
        return int(self._file[f"streams/{stream}/{values}"].shape[1])

    def _values(self, stream: str, values: str, video_id: str) -> NDArray[np.float32]:
        rows = self.videos[video_id].rows
        with _translate_errors(self.path):
            return np.asarray(self._file[f"streams/{stream}/{values}"][rows], np.float32)

    def _read_tables(self) -> None:
        file = self._file
        there = (file.attrs.get("format"), int(file.attrs.get("version", 0)))
        if there != (FORMAT, VERSION):
            raise ValueError(f"wanted {FORMAT}, version {VERSION}, got {there[0]}, {there[1]}")
        self.facts: dict[str, Any] = self._facts_of(file)
        table = file["videos"]
        first = table["row_first"][()].tolist()
        texts = {name: _texts(table[name]) for name in ("video_id", "status", "record")}
        numbers = [table[name][()].tolist() for name in ("frames", "fps", "start_s", "end_s")]
        self.videos: dict[str, FeatureVideo] = {}
        for k, video_id in enumerate(texts["video_id"]):
            record = VideoRecord.from_json(json.loads(texts["record"][k]))
            frames, fps, start_s, end_s = (column[k] for column in numbers)
            self.videos[video_id] = FeatureVideo(
                frames=frames,
                fps=fps,
                start_s=start_s,
                end_s=end_s,
                status=texts["status"][k],
                record=record,
                rows=slice(first[k], first[k + 1]),
            )
        self.streams = {
            name: StreamFacts(name, _texts(group["class_names"]), self._facts_of(group))
            for name, group in file["streams"].items()
        }
        rows = len(file["rows/start_frame"])
        shapes = {len(group[name]) for group in file["streams"].values() for name in VALUES}
        if shapes - {rows} or first[-1] != rows or len(first) != len(self.videos) + 1:
            raise ValueError(f"{rows} rows, and streams of {sorted(shapes)} rows")

    def _facts_of(self, group: Any) -> dict[str, Any]:
        values: dict[str, Any] = strict.parse_json(group["facts"][()], f"facts in {self.path}")
        return values


def _texts(table: Any) -> tuple[str, ...]:
    return tuple(text.decode() for text in table[()].tolist())


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, AttributeError, ValueError, TypeError, LookupError) as error:
        raise FormatError(
            f"{path} cannot be read as features: {error}; wanted what `flowpipe features` writes"
        ) from error
