"""Scores of the videos that a test has finished <-> a file by which an interrupted test goes on.

A line is the CRC-32 of JSON text, hexadecimal, and the text: first the settings of the test, an
object, then for each video a list of its id and its scores, float64 in base 64. Several processes
append to the file. What a killed process leaves of a line has another checksum and is skipped.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.errors import DiskFullError, FormatError, UsageError
from flowpipe.store.files import alone, write_all
from flowpipe.tsn.run_folder import differences
from flowpipe.whole import is_full
from flowpipe.words import some

_SHOWN = 4


def partial_of(out: Path) -> Path:
    """Return the file that keeps finished videos until the file of scores `out` is written."""
    return out.with_name(f"{out.name}.partial")


class Finished:
    """Scores of finished videos. Use it as a context manager.

    Parameters
    ----------
    path : Path, optional
        File that keeps them; None to keep them in memory.
    settings : mapping
        JSON values that decide the scores. Those of a file that is there must be the same.

    Attributes
    ----------
    scores : dict of str to float64 (C,)

    Raises
    ------
    UsageError
        If the file has scores of another test, or cannot be written.
    FormatError
        If the file is no such file.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self.path, self.scores = path, dict[str, NDArray[np.float64]]()
        self._fd, self._read = -1, 0
        if path is None:
            return
        with self._in_words():
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        wanted = json.loads(json.dumps(settings))
        line = _line(wanted)
        with alone(self._fd), self._in_words():
            size = os.fstat(self._fd).st_size
            # Also where the machine stopped before the first line was whole.
            if size < len(line) and line.startswith(os.pread(self._fd, size, 0)):
                os.ftruncate(self._fd, 0)
                write_all(self._fd, line)
        first = next(self._lines(), None)
        if not isinstance(first, dict):
            raise FormatError(
                f"{path} is no file of finished videos, which flowpipe test writes beside its "
                "output; delete or rename it"
            )
        different = differences(first, wanted)
        if different:
            raise UsageError(
                f"{path} keeps the scores of another test: {some(different, _SHOWN)}; delete it to "
                "begin again, or choose another -o"
            )
        self.update()

    def add(self, video_id: str, scores: NDArray[np.float64]) -> None:
        """Keep the scores of a video, (C,).

        Raises
        ------
        DiskFullError, UsageError
            If they cannot be written.
        """
        self.scores[video_id] = scores
        if self.path is None:
            return
        line = _line([video_id, base64.b64encode(np.asarray(scores, "<f8").tobytes()).decode()])
        with alone(self._fd), self._in_words():
            size = os.fstat(self._fd).st_size
            torn = os.pread(self._fd, 1, size - 1) != b"\n"
            write_all(self._fd, b"\n" + line if torn else line)

    def update(self) -> None:
        """Read what other processes have added."""
        for value in self._lines():
            if isinstance(value, list):
                video_id, text = value
                self.scores[video_id] = np.frombuffer(base64.b64decode(text), "<f8")

    def __enter__(self) -> Finished:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lines(self) -> Iterator[Any]:
        """The values of whole lines, from the line on that was read last."""
        if self.path is None:
            return
        with self._in_words():
            end = os.fstat(self._fd).st_size
            content = os.pread(self._fd, end - self._read, self._read)
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return  # it is being written, or torn: then the next line ends it
            self._read += len(line)
            checksum, _, text = line[:-1].partition(b" ")
            if checksum == _checksum(text):
                yield strict.parse_json(text, f"a line of {self.path}", kind=None)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = DiskFullError if is_full(error) else UsageError
            raise kind(
                f"cannot keep finished videos in {self.path}: {error.strerror or error}; the same "
                "command goes on where this one stopped"
            ) from error


def _line(values: Any) -> bytes:
    text = json.dumps(values, separators=(",", ":")).encode()
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return f"{zlib.crc32(text):08x}".encode()
