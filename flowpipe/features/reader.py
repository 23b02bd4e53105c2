"""File of `flowpipe features` -> the windows, features and scores of its videos.

The rows of all streams are the same windows, see `flowpipe.features.windows`. Rows of one video are
adjacent. `flowpipe.features.file_format` declares the data sets of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.errors import FormatError
from flowpipe.features import file_format as layout
from flowpipe.features.file_format import FeatureVideo, StreamFacts, Table
from flowpipe.features.windows import Windows
from flowpipe.types import VideoRecord


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
        JSON values by the keys `flowpipe.features.file_format.FILE_FACTS`.
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

    def rows(self, video_id: str) -> slice:
        """Return the rows of a video in the data sets of the file.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        slice
            One row at least.

        Raises
        ------
        KeyError
            If the file has no rows of the video.
        """
        return self._rows[video_id]

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
        rows = self.rows(video_id)
        with _translate_errors(self.path):
            group = self._file[layout.ROWS]
            return Windows(*(np.asarray(group[t.name][rows]) for t in layout.WINDOW_FIELDS))

    def features(self, stream: str, video_id: str) -> NDArray[np.float32]:
        """Return the features of the rows of a video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.

        Returns
        -------
        float32 (R, D)
            Output of the layer, the mean over the crops; NaN if the stream has left the video out.

        Raises
        ------
        KeyError
            If the file has no rows of the video.
        """
        return self._values(stream, layout.FEATURES, video_id)

    def scores(self, stream: str, video_id: str) -> NDArray[np.float32]:
        """Return the scores of the rows of a video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.

        Returns
        -------
        float32 (R, C)
            Logits, the mean over the crops; NaN if the stream has left the video out.

        Raises
        ------
        KeyError
            If the file has no rows of the video.
        """
        return self._values(stream, layout.SCORES, video_id)

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
        return int(self._file[layout.STREAMS][stream][values].shape[1])

    def _values(self, stream: str, table: Table, video_id: str) -> NDArray[np.float32]:
        rows = self.rows(video_id)
        with _translate_errors(self.path):
            values = self._file[layout.STREAMS][stream][table.name]
            return np.asarray(values[rows], np.float32)

    def _read_tables(self) -> None:
        file = self._file
        there = file.attrs.get(layout.ATTR_FORMAT), int(file.attrs.get(layout.ATTR_VERSION, 0))
        if there != (layout.FORMAT, layout.VERSION):
            raise ValueError(
                f"wanted {layout.FORMAT}, version {layout.VERSION}, got {there[0]}, {there[1]}"
            )
        self._check_tables()
        self.facts: dict[str, Any] = self._facts_of(file, layout.FILE_FACTS)
        self._read_videos(file[layout.VIDEOS])
        streams = file[layout.STREAMS]
        self.streams = {
            name: StreamFacts(
                name,
                tuple(_read(group, layout.CLASS_NAMES)),
                self._facts_of(group, layout.STREAM_FACTS),
            )
            for name, group in streams.items()
        }
        rows = len(file[layout.ROWS][layout.WINDOW_FIELDS[0].name])
        shapes = {len(group[t.name]) for group in streams.values() for t in layout.VALUES}
        if shapes - {rows} or self._row_count != rows:
            raise ValueError(f"{rows} rows, and streams of {sorted(shapes)} rows")

    def _read_videos(self, group: Any) -> None:
        first: list[int] = _read(group, layout.ROW_FIRST)
        ids, records = _read(group, layout.VIDEO_ID), _read(group, layout.RECORD)
        fields = {table.name: _read(group, table) for table in layout.VIDEO_FIELDS}
        if len(first) != len(ids) + 1:
            raise ValueError(f"wanted row_first of length {len(ids) + 1}, got {len(first)}")
        self._row_count = first[-1]
        self._rows = {key: slice(*first[k : k + 2]) for k, key in enumerate(ids)}
        self.videos: dict[str, FeatureVideo] = {}
        for k, video_id in enumerate(ids):
            record = VideoRecord.from_json(json.loads(records[k]))
            values = {name: column[k] for name, column in fields.items()}
            self.videos[video_id] = FeatureVideo(record, **values)

    def _check_tables(self) -> None:
        """Raise ValueError if a data set is missing."""
        names = list(self._file[layout.STREAMS])
        for group, tables in layout.TABLES.items():
            for folder in {group.replace("NAME", name) for name in names}:
                for table in tables:
                    path = f"{folder}/{table.name}".lstrip("/")
                    if path not in self._file:
                        raise ValueError(f"it lacks the data set {path}")

    def _facts_of(self, group: Any, keys: Sequence[str]) -> dict[str, Any]:
        content = group[layout.FACTS.name][()]
        values: dict[str, Any] = strict.parse_json(content, f"facts in {self.path}")
        if missing := [key for key in keys if key not in values]:
            raise ValueError(f"facts in {group.name} lack {', '.join(missing)}")
        return values


def _read(group: Any, table: Table) -> list[Any]:
    """Return the values of a table as Python's numbers or texts."""
    values: list[Any] = group[table.name][()].tolist()
    return [text.decode() for text in values] if table.dtype == layout.TEXT else values


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, AttributeError, ValueError, TypeError, LookupError) as error:
        raise FormatError(
            f"{path} cannot be read as features: {error}; wanted what `flowpipe features` writes"
        ) from error
