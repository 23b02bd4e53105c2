"""Scores of the videos that a test has finished <-> the files by which a test resumes.

``OUT`` has the scores of a whole test; ``OUT.partial`` keeps finished videos until it is written.

A line of ``OUT.partial`` is the CRC-32 of JSON text, hexadecimal, and the text: first the settings
of the test, an object, then for each video a list of its id and its scores, float64 in base 64.
Several processes append to the file. What a killed process leaves of a line has another checksum
and is skipped.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.atomic import translate_write_errors, write_all
from flowpipe.errors import FormatError, UsageError
from flowpipe.evaluation import read_facts, read_h5
from flowpipe.store.files import lock_exclusively
from flowpipe.tsn.run_folder import differences
from flowpipe.words import list_some

_SHOWN = 4
WHAT = "scores of finished videos"


def partial_path(out: Path) -> Path:
    """Return the file that keeps finished videos until the scores are written.

    Parameters
    ----------
    out : Path
        File of the scores.

    Returns
    -------
    Path
        File beside it.
    """
    return out.with_name(f"{out.name}.partial")


class PartialScores:
    """Scores of the finished videos of a test, as a context manager.

    Parameters
    ----------
    out : Path, optional
        File of scores of the test, of which the videos are finished if it is there; the others are
        kept in `partial_path` it. None to keep them in memory.
    settings : mapping
        JSON values that decide the scores, which are the facts of `out`. Those of files that are
        there must be the same, except the path of the store.

    Attributes
    ----------
    scores : dict of str to float64 (C,)
    written : frozenset of str
        Videos whose scores are in `out`.

    Raises
    ------
    UsageError
        If a file has scores of another test, or cannot be written.
    FormatError
        If an existing file is not a file of scores, or not one of finished videos.
    """

    def __init__(self, out: Path | None, settings: Mapping[str, Any]) -> None:
        self.scores: dict[str, NDArray[np.float64]] = {}
        self.written: frozenset[str] = frozenset()
        self._fd, self._read = -1, 0
        self._path = partial_path(out) if out else None
        if out is None or self._path is None:
            return
        wanted = json.loads(json.dumps(settings))
        _scores_in(out, wanted)  # fails before anything is written
        with translate_write_errors(self._path, WHAT):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o666)
        line = _line(wanted)
        with lock_exclusively(self._fd), translate_write_errors(self._path, WHAT):
            size = os.fstat(self._fd).st_size
            # Also where the machine stopped before the first line was whole.
            if size < len(line) and line.startswith(os.pread(self._fd, size, 0)):
                os.ftruncate(self._fd, 0)
                write_all(self._fd, line)
        first = next(self._lines(), None)
        if not isinstance(first, dict):
            raise FormatError(
                f"{self._path} is no file of finished videos, which flowpipe test writes beside "
                "its output; delete or rename it"
            )
        _check_same(self._path, first, wanted)
        self.update()
        # `out` is written before the file that is open here is deleted. A process that starts late
        # and makes that file anew finds all scores in `out`.
        written = _scores_in(out, wanted)
        self.written = frozenset(written)
        self.scores |= written

    def add(self, video_id: str, scores: NDArray[np.float64]) -> None:
        """Keep the scores of a video.

        Parameters
        ----------
        video_id : str
            Id of the video.
        scores : float64 (C,)
            Scores of its classes.

        Raises
        ------
        DiskFullError, UsageError
            If they cannot be written.
        """
        self.scores[video_id] = scores
        if self._path is None:
            return
        line = _line([video_id, base64.b64encode(np.asarray(scores, "<f8").tobytes()).decode()])
        with lock_exclusively(self._fd), translate_write_errors(self._path, WHAT):
            size = os.fstat(self._fd).st_size
            torn = os.pread(self._fd, 1, size - 1) != b"\n"
            write_all(self._fd, b"\n" + line if torn else line)

    def update(self) -> None:
        """Read the scores that other processes have added."""
        for value in self._lines():
            if isinstance(value, list):
                video_id, text = value
                self.scores[video_id] = np.frombuffer(base64.b64decode(text), "<f8")

    def delete(self) -> None:
        """Delete the file of finished videos, if it is there: all scores are in `out`."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> PartialScores:
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
        """Yield the values of complete lines after the last one read."""
        if self._path is None:
            return
        with translate_write_errors(self._path, WHAT):
            end = os.fstat(self._fd).st_size
            content = os.pread(self._fd, end - self._read, self._read)
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return  # being written, or torn: then the next line terminates it
            self._read += len(line)
            checksum, _, text = line[:-1].partition(b" ")
            if checksum == _checksum(text):
                yield strict.parse_json(text, f"a line of {self._path}", kind=None)


def _scores_in(out: Path, wanted: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Return the scores in the file of a finished test; none if it is absent.

    Raises
    ------
    UsageError
        If it has the scores of another test.
    FormatError
        If it is no file of scores.
    """
    if not out.exists():
        return {}
    try:
        facts, scores = read_facts(out), read_h5(out)
    except FormatError as error:
        raise FormatError(f"{error}; delete it, or choose another -o") from error
    _check_same(out, facts, wanted)
    return dict(zip(scores.video_ids, scores.values, strict=True))


def _check_same(path: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise UsageError unless the settings of a file are those of this test."""
    # Not the path of the store: a moved one has the same digest and time.
    own, other = ({k: v for k, v in one.items() if k != "store"} for one in (there, wanted))
    if different := differences(own, other):
        raise UsageError(
            f"{path} has the scores of another test: {list_some(different, _SHOWN)}; delete it to "
            "begin again, or choose another -o"
        )


def _line(values: Any) -> bytes:
    text = json.dumps(values, separators=(",", ":")).encode()
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return f"{zlib.crc32(text):08x}".encode()
