"""File of temporal detections (ActivityNet's JSON, THUMOS's text) <-> arrays with a row each."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.atomic import write_atomic
from flowpipe.errors import FormatError
from flowpipe.types import read_interval
from flowpipe.words import count_noun, did_you_mean

VERSION = "VERSION 1.3"
"""Version of the format in the files of ActivityNet's challenge."""
_WANTED = '{"results": {video_id: [{"label", "score", "segment": [start, end]}]}}'
_TEXT_ROW = "'video_id start end class_number score', times in seconds"
_FIELDS = 5
"""Fields of such a row."""
_SAMPLE = 1000
"""Lines that tell detections from scores."""
_SEPARATORS = re.compile(r"[\s,]+")


@dataclass(frozen=True)
class Detections:
    """Intervals that a method found in videos, one row each, in the order of the file."""

    source: str
    """Name of the file, for messages."""
    video_ids: tuple[str, ...]
    """Video of each row, (N,)."""
    labels: NDArray[np.intp]
    """Class of each row, (N,)."""
    intervals: NDArray[np.float64]
    """Start and end of each row, seconds, (N, 2)."""
    scores: NDArray[np.float64]
    """Confidence of each row, (N,); higher is more likely."""
    _: KW_ONLY
    unknown: Mapping[str, int] = field(default_factory=dict)
    """Number of detections of the file that are left out, by their unknown class."""

    def __len__(self) -> int:
        return len(self.video_ids)

    def select(self, rows: NDArray[np.bool_]) -> Detections:
        """Return some rows.

        Parameters
        ----------
        rows : bool (N,)
            True for the rows to return.

        Returns
        -------
        Detections
            The rows in their order.
        """
        ids = tuple(self.video_ids[k] for k in np.flatnonzero(rows))
        return replace(
            self,
            video_ids=ids,
            labels=self.labels[rows],
            intervals=self.intervals[rows],
            scores=self.scores[rows],
        )


def has_detections(path: Path, classes: int) -> bool:
    """Return whether a file has the form of detections, not that of scores of whole videos.

    Parameters
    ----------
    path : Path
        A ``.json`` file has detections, an ``.h5`` or ``.npz`` file has scores, and a text file
        has detections if most lines have five fields: an id, a start, a later end, a whole
        number and a score.
    classes : int
        Number of classes. With 4, a line of scores has five fields too, and text counts as scores.

    Returns
    -------
    bool
        False for a file that cannot be read.
    """
    if path.suffix.lower() in (".h5", ".npz"):
        return False
    if path.suffix.lower() == ".json":
        return True
    if classes == _FIELDS - 1:
        return False
    try:
        lines = strict.read_text(path).split("\n")[:_SAMPLE]
    except (FormatError, OSError):
        return False  # the reader of scores describes what is wrong
    rows = [_SEPARATORS.split(line.strip()) for line in lines if line.strip()]
    seem = sum(len(row) == _FIELDS and _in_order(row) for row in rows)
    return 2 * seem > len(rows)


def read_detections(path: Path, class_names: Sequence[str]) -> Detections:
    """Read a file of detections.

    Parameters
    ----------
    path : Path
        A ``.json`` file in the form of ActivityNet's challenge, or text in the form of THUMOS14's:
        a line ``video_id start end class_number score`` per detection, with class numbers from 1.
    class_names : sequence of str
        Name of each class.

    Returns
    -------
    Detections
        Detections in the order of the file; those of classes that `class_names` lacks are left out
        and counted in ``unknown``.

    Raises
    ------
    FormatError
        If the file has no detection of a known class, another form, a class number that is none, an
        interval that is not 0 <= start <= end, or a score that is not finite; the message names the
        place.
    """
    if path.suffix.lower() in (".h5", ".npz"):
        raise FormatError(f"{path}: wanted detections as .json or text, got a {path.suffix} file")
    try:
        if path.suffix.lower() == ".json":
            read = list(_from_json(path, class_names))
        else:
            read = list(_from_text(path, class_names))
    except FileNotFoundError as error:
        raise FormatError(f"no file {path}; give a file of detections") from error
    if not read:
        raise FormatError(f"{path} has no detections; wanted at least one")
    rows = [(video_id, label, *rest) for video_id, label, *rest in read if isinstance(label, int)]
    unknown = Counter(label for _, label, _, _ in read if isinstance(label, str))
    if not rows:
        name = next(iter(unknown))
        raise FormatError(
            f"{path} has no detection of a known class: {name!r:.60} is no class; "
            f"{did_you_mean(name, class_names)}"
        )
    ids, labels, intervals, scores = zip(*rows, strict=True)
    return Detections(
        str(path), ids, np.array(labels, np.intp), np.array(intervals, np.float64),
        np.array(scores), unknown=unknown,
    )  # fmt: skip


def write_detections(
    path: Path, found: Detections, class_names: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Write detections in the form of ActivityNet's challenge, atomically.

    Parameters
    ----------
    path : Path
        File to write; an existing one is replaced.
    found : Detections
        Detections of a video are written in the order of their rows.
    class_names : sequence of str
        Name of each class.
    facts : mapping
        JSON values that say how the detections were made; they become ``external_data``.

    Raises
    ------
    DiskFullError, UsageError
        If the file cannot be written.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for video_id, label, interval, score in zip(
        found.video_ids, found.labels.tolist(), found.intervals.tolist(), found.scores.tolist(),
        strict=True,
    ):  # fmt: skip
        one = {"label": class_names[label], "score": score, "segment": interval}
        results.setdefault(video_id, []).append(one)
    values = {"version": VERSION, "results": results, "external_data": dict(facts)}
    write_atomic(path, json.dumps(values, ensure_ascii=False).encode(), "detections")


def match_ids(found: Detections, known: Collection[str]) -> Detections:
    """Return the detections with ``v_`` put before, or taken from, ids that are known only so.

    Parameters
    ----------
    found : Detections
        Detections as read.
    known : collection of str
        Ids of the videos of the data set.

    Returns
    -------
    Detections
        The same rows; ids that are unknown either way stay as they are.

    Raises
    ------
    FormatError
        If two ids of the file become one.
    """
    renamed = {video_id: _match_id(video_id, known) for video_id in dict.fromkeys(found.video_ids)}
    if len(set(renamed.values())) < len(renamed):
        twice = next(key for key, new in renamed.items() if key != new and new in renamed)
        raise FormatError(
            f"{found.source} has both {twice} and {renamed[twice]}, which are one video; merge them"
        )
    return replace(found, video_ids=tuple(renamed[video_id] for video_id in found.video_ids))


def _match_id(video_id: str, known: Collection[str]) -> str:
    candidates = (video_id, video_id.removeprefix("v_"), f"v_{video_id}")
    return next((one for one in candidates if one in known), video_id)


_Row = tuple[str, int | str, tuple[float, float], float]
"""Video, class number or unknown class, interval and score."""


def _from_json(path: Path, class_names: Sequence[str]) -> Iterator[_Row]:
    content = strict.read_json(path)
    label = {name: k for k, name in enumerate(class_names)}
    results = content.get("results")
    if not isinstance(results, dict):
        got = f"an object with {', '.join(map(str, content)) or 'no keys'}"
        if "results" in content:
            got = f"results of type {type(results).__name__}"
        raise FormatError(f"{path}: wanted {_WANTED}, got {got}")
    for video_id, found in results.items():
        if not isinstance(found, list):
            raise FormatError(f"{path}, video {video_id}: wanted a list, got {found!r:.60}")
        for number, one in enumerate(found):
            place = f"{path}, video {video_id}, detection {number}"
            try:
                name, score, (start, end) = one["label"], one["score"], one["segment"]
            except (KeyError, TypeError, ValueError) as error:
                raise FormatError(
                    f'{place}: wanted {{"label", "score", "segment": [start, end]}}, got '
                    f"{one!r:.120}"
                ) from error
            if not isinstance(name, str):
                raise FormatError(f"{place}: wanted the name of a class, got {name!r:.60}")
            interval = _interval(place, start, end)
            yield video_id, label.get(name, name), interval, _score(place, score)


def _from_text(path: Path, class_names: Sequence[str]) -> Iterator[_Row]:
    for number, line in enumerate(strict.read_text(path).lstrip("\ufeff").splitlines(), 1):
        if not line.strip():
            continue
        place, fields = f"{path}:{number}", _SEPARATORS.split(line.strip())
        if len(fields) != 5:
            raise FormatError(
                f"{place}: wanted {_TEXT_ROW}, got {count_noun(len(fields), 'field')}: {line!r:.80}"
            )
        video_id, start, end, chosen, score = fields
        if not chosen.isdecimal() or not 1 <= int(chosen) <= len(class_names):
            raise FormatError(
                f"{place}: wanted a class number from 1 to {len(class_names)}, got {chosen!r}"
            )
        interval = _interval(place, start, end)
        yield video_id.removesuffix(".mp4"), int(chosen) - 1, interval, _score(place, score)


def _interval(place: str, start: object, end: object) -> tuple[float, float]:
    """Return the start and end of an interval, seconds; FormatError unless 0 <= start <= end."""
    try:
        return read_interval((start, end))
    except ValueError as error:
        raise FormatError(f"{place}: {error}; clip it to the video or remove it") from error


def _score(place: str, score: object) -> float:
    value = _number(score)
    if not math.isfinite(value):
        raise FormatError(f"{place}: wanted a finite score, got {score!s:.30}")
    return value


def _number(value: object) -> float:
    """Return a number, or the number in a text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _in_order(row: Sequence[str]) -> bool:
    """Return whether a row has a start, a later end and a whole number."""
    return row[3].isdecimal() and _number(row[1]) < _number(row[2])
