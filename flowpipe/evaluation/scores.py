"""A file of scores -> an array with a row per video: THUMOS's text form, or .npz."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError

_SHOWN = 5


@dataclass(frozen=True)
class Scores:
    """What a model says of videos."""

    source: str
    video_ids: tuple[str, ...]
    values: NDArray[np.float64]
    """(N, C), higher is more likely."""

    def of(self, video_ids: Sequence[str]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Rows of these videos, and the ids that have none and are left out."""
        row = {video_id: k for k, video_id in enumerate(self.video_ids)}
        there = [row[video_id] for video_id in video_ids if video_id in row]
        return self.values[there], tuple(key for key in video_ids if key not in row)


def read_scores(path: Path, classes: int) -> Scores:
    """Read scores.

    Parameters
    ----------
    path : Path
        Text with a line a video, ``video_id score_1 ... score_C`` with spaces, tabs or commas
        between, and perhaps a line of headings first: the form of a THUMOS submission. Or .npz with
        ``video_ids`` (N,) and ``scores`` (N, C).
    classes : int
        C.

    Raises
    ------
    FormatError
        Naming the line or video, if a row has another number of scores, one that is no number, or
        an id twice.
    """
    if path.suffix == ".npz":
        ids, values = _from_npz(path)
    else:
        ids, values = _from_text(path, classes)
    if values.ndim != 2 or values.shape != (len(ids), classes):
        raise FormatError(
            f"{path}: wanted {classes} scores for each of {len(ids)} videos, got {values.shape}"
        )
    wrong = [ids[row] for row in np.flatnonzero(~np.isfinite(values).all(axis=1))]
    if wrong:
        raise FormatError(
            f"{path}: {len(wrong)} videos have scores that are no finite numbers: "
            f"{', '.join(wrong[:_SHOWN])}"
        )
    twice = sorted({key for key in ids if ids.count(key) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise FormatError(f"{path} has {len(twice)} ids twice: {', '.join(twice[:_SHOWN])}")
    return Scores(str(path), tuple(ids), values)


def _from_npz(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return [str(key) for key in content["video_ids"]], content["scores"].astype(np.float64)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"{path} is no .npz with video_ids (N,) of text and scores (N, C): {error}"
        ) from error


def _from_text(path: Path, classes: int) -> tuple[list[str], NDArray[np.float64]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read scores {path}: {error}") from error
    # The last C fields are the scores: an id may have spaces in it.
    pattern = re.compile(rf"\s*(.*?)((?:(?:\s*,\s*|\s+)[^\s,]+){{{classes}}})\s*,?\s*")
    ids, rows = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = pattern.fullmatch(line)
        try:
            if found is None or not found[1]:
                raise ValueError(f"{len(re.split(r'[ ,]+', line.strip())) - 1} scores")
            rows.append([float(text) for text in re.split(r"[\s,]+", found[2].strip(" ,\t"))])
        except ValueError as error:
            if number == 1:
                continue  # headings
            raise FormatError(
                f"{path}:{number}: wanted a video id and {classes} scores, got {error}"
            ) from error
        ids.append(found[1])
    if not ids:
        raise FormatError(f"{path} has no line of a video id and {classes} scores")
    return ids, np.array(rows)
