"""Rows of the videos that a run has finished <-> the file by which the run resumes.

``OUT.partial`` keeps the rows of finished videos until ``OUT`` is written. It begins with a line of
the settings of the run. Each video then has a line with its shape, followed by its values, float32.
A line is the CRC-32 of JSON text, hexadecimal, and the text. If a killed process left
the end of the file incomplete, the end is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.atomic import translate_write_errors, write_all
from flowpipe.errors import FormatError, UsageError

_WHAT = "features of finished videos"
_LINE_BYTES = 1 << 20
"""Longest line of a video, bytes."""


class _Location(NamedTuple):
    """Values of one video in the file."""

    offset: int
    rows: int
    features: int
    scores: int

    @property
    def bytes(self) -> int:
        return 4 * self.rows * (self.features + self.scores)


def spool_path(out: Path) -> Path:
    """Return the file that keeps finished videos until the file of features is written.

    Parameters
    ----------
    out : Path
        File of features.

    Returns
    -------
    Path
        File beside it.
    """
    return out.with_name(f"{out.name}.partial")


class RowSpool:
    """Rows of finished videos in a file, as a context manager.

    Parameters
    ----------
    path : Path
        The file; it is made if it is missing.
    settings : mapping
        JSON values that determine the rows.

    Attributes
    ----------
    settings : dict
        Settings in the file: those given, or those of the run that made the file.

    Raises
    ------
    UsageError
        If another process uses the file, or it cannot be written.
    FormatError
        If the file is of another kind.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._locations: dict[tuple[str, str], _Location] = {}
        with translate_write_errors(path, _WHAT):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._lock()
                self.settings = self._begin(_line(settings))
                self._find_videos()
            except BaseException:
                os.close(self._fd)
                raise

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def has(self, stream: str, video_id: str, rows: int) -> bool:
        """Return whether the file has all rows of a video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.
        rows : int
            Number of rows of the video.

        Returns
        -------
        bool
            True if it has this number of rows.
        """
        location = self._locations.get((stream, video_id))
        return location is not None and location.rows == rows

    def add(
        self,
        stream: str,
        video_id: str,
        features: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None:
        """Append the rows of a finished video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.
        features : float32 (R, D)
            Features of its rows.
        scores : float32 (R, C)
            Scores of its rows.

        Raises
        ------
        DiskFullError, UsageError
            If they cannot be written.
        """
        payload = np.hstack([features, scores]).astype("<f4").tobytes()
        shape = (len(features), features.shape[1], scores.shape[1])
        line = _line([stream, video_id, *shape, zlib.crc32(payload)])
        with translate_write_errors(self._path, _WHAT):
            write_all(self._fd, line + payload)
        self._locations[stream, video_id] = _Location(self._end + len(line), *shape)
        self._end += len(line) + len(payload)

    def read(self, stream: str, video_id: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the rows of a video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.

        Returns
        -------
        features : float32 (R, D)
            Features of its rows.
        scores : float32 (R, C)
            Scores of its rows.
        """
        location = self._locations[stream, video_id]
        content = os.pread(self._fd, location.bytes, location.offset)
        both = np.frombuffer(content, "<f4").reshape(location.rows, -1)
        return both[:, : location.features], both[:, location.features :]

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process of flowpipe features writes {self._path}; wait for it, or choose "
                "another -o"
            ) from None
        except OSError:
            pass  # a file system without locks
        if not os.fstat(self._fd).st_nlink:
            raise UsageError(
                f"another flowpipe features has just finished, and has deleted {self._path}; run "
                "the same command again to see its result"
            )

    def _begin(self, line: bytes) -> dict[str, Any]:
        """Write the first line if there is none, and return its settings."""
        size = os.fstat(self._fd).st_size
        if size < len(line) and line.startswith(os.pread(self._fd, size, 0)):
            os.ftruncate(self._fd, 0)
            write_all(self._fd, line)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            first = file.readline()
        settings = _value(first)
        if not isinstance(settings, dict):
            raise FormatError(
                f"{self._path} is not a file of finished videos, as flowpipe features writes "
                "beside its output; delete or rename it"
            )
        self._end = len(first)
        return settings

    def _find_videos(self) -> None:
        """Find the finished videos; cut off what a killed process left at the end."""
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(self._end)
            while isinstance(values := _value(line := file.readline(_LINE_BYTES)), list):
                stream, video_id, rows, features, scores, checksum = values
                location = _Location(self._end + len(line), rows, features, scores)
                if zlib.crc32(content := file.read(location.bytes)) != checksum:
                    break
                self._locations[stream, video_id] = location
                self._end += len(line) + len(content)
        os.ftruncate(self._fd, self._end)
        os.lseek(self._fd, self._end, os.SEEK_SET)


def _line(values: Any) -> bytes:
    text = json.dumps(values, separators=(",", ":"), sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _value(line: bytes) -> Any:
    """Return the value of a line; None if it is incomplete or damaged."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    with contextlib.suppress(FormatError):
        return strict.parse_json(text, "a line", kind=None)
    return None
