"""Rows of the videos that a run has finished <-> the files by which the run resumes.

Each process of a run adds the rows of finished videos to a file of its own until ``OUT`` is
written: the first one to ``OUT.partial``, process R to ``OUT.partial.R``. All of them are read: a
run resumes with any number of processes. A file begins with a line of the settings of the run. Each
video then has a line with its shape, followed by its values, float32. A line is the CRC-32 of JSON
text, hexadecimal, and the text. What a killed process left incomplete is cut off when its file is
written again.
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


class _File(NamedTuple):
    """File of one process, opened for reading."""

    fd: int
    settings: dict[str, Any]
    """Values of its first line."""


class _Location(NamedTuple):
    """Values of one video in a file."""

    fd: int
    offset: int
    rows: int
    features: int
    scores: int

    @property
    def bytes(self) -> int:
        return 4 * self.rows * (self.features + self.scores)


def spool_path(out: Path, process: int = 0) -> Path:
    """Return the file that keeps finished videos until the file of features is written.

    Parameters
    ----------
    out : Path
        File of features.
    process : int
        Number of the process that writes it.

    Returns
    -------
    Path
        File beside `out`.
    """
    return out.with_name(f"{out.name}.partial{f'.{process}' if process else ''}")


class RowSpool:
    """Rows of finished videos in the files of all processes, as a context manager.

    It only reads until `begin` is called.

    Parameters
    ----------
    out : Path
        File of features that the rows are for.

    Raises
    ------
    UsageError
        If a file cannot be read.
    FormatError
        If a file is of another kind.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files: dict[Path, _File] = {}
        self._ends: dict[Path, int] = {}
        self._locations: dict[tuple[str, str], _Location] = {}
        self._own: dict[str, Any] | None = None
        self._path, self._fd = spool_path(out), -1
        try:
            self.update()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close()

    @property
    def settings(self) -> dict[Path, dict[str, Any]]:
        """Settings of the runs that made the files, JSON values."""
        return {path: file.settings for path, file in self._files.items()}

    def begin(self, settings: Mapping[str, Any], process: int = 0) -> None:
        """Open the file of this process, to which `add` appends; nobody else may.

        Files that others make from now on are read only if they have the same settings.

        Parameters
        ----------
        settings : mapping
            JSON values that determine the rows.
        process : int
            Number of this process.

        Raises
        ------
        UsageError
            If another process uses the file, or it cannot be written.
        FormatError
            If the file is of another kind.
        """
        self._path, line = spool_path(self._out, process), _line(settings)
        self._own = json.loads(json.dumps(settings))
        with translate_write_errors(self._path, _WHAT):
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._lock()
            size = os.fstat(self._fd).st_size
            if size < len(line) and line.startswith(os.pread(self._fd, size, 0)):
                os.ftruncate(self._fd, 0)
                write_all(self._fd, line)
            self.update()
            if self._path not in self._files:
                raise _another_kind(self._path)
            os.ftruncate(self._fd, self._ends[self._path])
            os.lseek(self._fd, self._ends[self._path], os.SEEK_SET)

    def update(self) -> int:
        """Read the rows that other processes have added.

        Returns
        -------
        int
            Number of new rows.
        """
        for path in _spool_paths(self._out):
            if path not in self._files:
                self._open(path)
        return sum(map(self._find_videos, self._files))

    def has(self, stream: str, video_id: str, rows: int) -> bool:
        """Return whether the files have all rows of a video.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.
        rows : int
            Number of rows of the video.

        Returns
        -------
        bool
            True if they have this number of rows.
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
        """Append the rows of a finished video to the file of this process.

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
        self._find_videos(self._path)

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
        content = os.pread(location.fd, location.bytes, location.offset)
        both = np.frombuffer(content, "<f4").reshape(location.rows, -1)
        return both[:, : location.features], both[:, location.features :]

    def delete(self) -> None:
        """Delete the files of all processes: all rows are in the file of features."""
        for path in _spool_paths(self._out):
            path.unlink(missing_ok=True)

    def _close(self) -> None:
        for fd in [self._fd, *(file.fd for file in self._files.values())]:
            if fd >= 0:
                os.close(fd)
        self._files, self._fd = {}, -1

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
        finished = not os.fstat(self._fd).st_nlink
        if not finished and self._out.exists():
            self._path.unlink()  # made again after it had been deleted
            finished = True
        if finished:
            raise UsageError(
                f"another flowpipe features has just finished, and has deleted {self._path}; run "
                "the same command again to see its result"
            )

    def _open(self, path: Path) -> None:
        """Open a file of finished videos for reading, unless its first line is being written."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # another command has just finished
            return
        except OSError as error:
            raise UsageError(f"{_WHAT} {path} cannot be read: {error.strerror}") from error
        kept = False
        try:
            with os.fdopen(os.dup(fd), "rb") as file:
                line = file.readline()
            settings = _value(line)
            if line.endswith(b"\n") and not isinstance(settings, dict):
                raise _another_kind(path)
            # A later file with other settings is that of a command which is being refused.
            kept = settings is not None and self._own in (None, settings)
        finally:
            if not kept:
                os.close(fd)
        if kept:
            self._files[path], self._ends[path] = _File(fd, settings), len(line)

    def _find_videos(self, path: Path) -> int:
        """Find the videos after those found so far, as far as they are whole; count their rows."""
        found, fd = 0, self._files[path].fd
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(self._ends[path])
            while isinstance(values := _value(line := file.readline(_LINE_BYTES)), list):
                stream, video_id, rows, features, scores, checksum = values
                location = _Location(fd, self._ends[path] + len(line), rows, features, scores)
                if zlib.crc32(content := file.read(location.bytes)) != checksum:
                    break
                self._locations[stream, video_id] = location
                self._ends[path] += len(line) + len(content)
                found += rows
        return found


def _spool_paths(out: Path) -> list[Path]:
    """Return the files of finished videos that are there, that of the first process last."""
    first = spool_path(out)
    others = [
        path for path in out.parent.glob("*.partial.*")
        if path.stem == first.name and path.suffix[1:].isdigit()
    ]  # fmt: skip
    return [*sorted(others), *([first] if first.exists() else [])]


def _another_kind(path: Path) -> FormatError:
    return FormatError(
        f"{path} is not a file of finished videos, as flowpipe features writes beside its output; "
        "delete or rename it"
    )


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
