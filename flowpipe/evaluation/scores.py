"""File of scores (HDF5, THUMOS's text form, .npz) <-> an array with a row per video."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.atomic import write_atomic
from flowpipe.errors import FormatError
from flowpipe.words import count_noun, list_some

_SHOWN = 5
# Names in the HDF5 file.
_IDS, _VALUES, _LABELS, _FACTS = "video_ids", "scores", "labels", "facts"
_LEFT_OUT = "left_out"


@dataclass(frozen=True)
class Scores:
    """Scores of videos: one row per video, one column per class."""

    source: str
    """Name of the file, for messages."""
    video_ids: tuple[str, ...]
    values: NDArray[np.float64]
    """Scores, (N, C); higher is more likely."""
    positives: NDArray[np.bool_] | None = None
    """True where a class is a label, (N, C); None if the file has no labels."""
    left_out: tuple[str, ...] | None = None
    """Ids of the videos without scores, because they have no image of the modality, such as no
    sound; None if the file does not name them."""

    def of(self, video_ids: Sequence[str]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Select the scores of some videos.

        Parameters
        ----------
        video_ids : sequence of str
            Ids, in the wanted order.

        Returns
        -------
        values : float64 (M, C)
            Scores of the videos that have some.
        missing : tuple of str
            Ids of the other videos.
        """
        row = {video_id: k for k, video_id in enumerate(self.video_ids)}
        there = [row[video_id] for video_id in video_ids if video_id in row]
        return self.values[there], tuple(key for key in video_ids if key not in row)


def write_scores(path: Path, scores: Scores, facts: Mapping[str, Any]) -> None:
    """Write scores as HDF5, atomically.

    The file has the data sets ``video_ids`` (N,), text, ``scores`` (N, C), float64, and, if they
    are known, ``labels`` (N, C), 0 or 1, and ``left_out`` (M,), text; and the attribute ``facts``,
    JSON.

    Parameters
    ----------
    path : Path
        File to write.
    scores : Scores
        Scores, and labels and videos left out if they are known.
    facts : mapping
        JSON values that describe where the scores come from; see Notes.

    Raises
    ------
    DiskFullError, UsageError
        If the file cannot be written.

    Notes
    -----
    ``flowpipe test`` writes the facts of the run (``run.json``) with the sampling and the test
    parameters used, and

    - ``split_name``: the split;
    - ``consensus``: how crops and snippets were combined: ``name`` (average, max, top_k, linear or
      attention), ``of`` (snippets, or windows of M-TWI), ``top_k`` (a number, or ``max(15, N/4)``
      of N windows; only if ``name`` is top_k), ``trained`` (whether the network was trained with
      it), ``of_crops`` (mean or max);
    - ``amp``: the precision;
    - ``store``, ``store_digest`` and ``store_created``: path of the tested store, digest of its
      recipe and time at which it was made;
    - ``network``: SHA-256 of the weights.

    ``flowpipe fuse`` writes the facts of the first file, ``fused``, the files, and ``weights``.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, ids in ((_IDS, scores.video_ids), (_LEFT_OUT, scores.left_out)):
            if ids is not None:
                file.create_dataset(name, data=list(ids), dtype=h5py.string_dtype("utf-8"))
        file[_VALUES] = np.asarray(scores.values, np.float64)
        if scores.positives is not None:
            file[_LABELS] = scores.positives.astype(np.uint8)
        file.attrs[_FACTS] = json.dumps(facts, ensure_ascii=False, sort_keys=True)
    write_atomic(path, content.getvalue(), "scores")


def read_facts(path: Path) -> dict[str, Any]:
    """Read what a file of `write_scores` says about its scores.

    Parameters
    ----------
    path : Path
        File of scores.

    Returns
    -------
    dict
        JSON values; empty for a file of another kind.

    Raises
    ------
    FormatError
        If an .h5 file is not one that `write_scores` wrote.
    """
    if path.suffix != ".h5":
        return {}
    with _translate_h5_errors(path), h5py.File(path, "r") as file:
        facts = file.attrs.get(_FACTS, "{}")
    values: dict[str, Any] = strict.parse_json(facts, f"the facts in {path}")
    return values


def read_scores(path: Path, classes: int) -> Scores:
    """Read a file of scores.

    Parameters
    ----------
    path : Path
        An .h5 file of `write_scores`; an .npz file with ``video_ids`` (N,) and ``scores`` (N, C);
        or text as in a THUMOS submission: a line ``video_id score_1 ... score_C`` per video,
        separated by spaces, tabs or commas, with an optional first line of headings.
    classes : int
        Number of classes, C.

    Returns
    -------
    Scores
        Scores without labels.

    Raises
    ------
    FormatError
        If a row has another number of scores or a score that is not a finite number, or an id
        occurs twice; the message names the line or video.
    """
    if path.suffix == ".npz":
        ids, values = _from_npz(path)
    elif path.suffix == ".h5":
        read = read_h5(path)
        ids, values = list(read.video_ids), read.values
    else:
        ids, values = _from_text(path, classes)
    if values.ndim != 2 or values.shape != (len(ids), classes):
        raise FormatError(
            f"{path}: wanted {count_noun(classes, 'score')} for each of "
            f"{count_noun(len(ids), 'video')}, got an array of {values.shape}"
        )
    wrong = [ids[row] for row in np.flatnonzero(~np.isfinite(values).all(axis=1))]
    if wrong:
        raise FormatError(
            f"{path}: {count_noun(len(wrong), 'video')} with scores that are not finite: "
            f"{list_some(wrong, _SHOWN)}"
        )
    twice = sorted(key for key, count in Counter(ids).items() if count > 1)
    if twice:
        raise FormatError(
            f"{path} has {count_noun(len(twice), 'id')} twice: {list_some(twice, _SHOWN)}"
        )
    return Scores(str(path), tuple(ids), values)


def read_h5(path: Path) -> Scores:
    """Read a file of `write_scores`, its labels too.

    Parameters
    ----------
    path : Path
        File to read.

    Returns
    -------
    Scores
        Scores, with labels and videos left out if the file has them.

    Raises
    ------
    FormatError
        If the file is not one that `write_scores` wrote.
    """
    with _translate_h5_errors(path), h5py.File(path, "r") as file:
        if lacking := [name for name in (_IDS, _VALUES) if name not in file]:
            raise ValueError(f"it lacks the data set {' and '.join(lacking)}")
        ids = _read_ids(file[_IDS])
        values = np.asarray(file[_VALUES][()], np.float64)
        labels = np.asarray(file[_LABELS][()]) > 0 if _LABELS in file else None
        if values.ndim != 2 or len(values) != len(ids) or not np.isfinite(values).all():
            raise ValueError(f"{len(ids)} ids and scores of {values.shape}, all finite wanted")
        left_out = _read_ids(file[_LEFT_OUT]) if _LEFT_OUT in file else None
        return Scores(str(path), ids, values, labels, left_out)


def _read_ids(table: Any) -> tuple[str, ...]:
    return tuple(text.decode() for text in table[()].tolist())


@contextmanager
def _translate_h5_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, AttributeError, ValueError, TypeError) as error:
        raise FormatError(
            f"{path} cannot be read as scores: {error}; wanted what `flowpipe test` writes"
        ) from error


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
        raise FormatError(f"scores {path} cannot be read: {error}") from error
    # The last C fields are the scores: an id may have spaces in it.
    pattern = re.compile(rf"\s*(.*?)((?:(?:\s*,\s*|\s+)[^\s,]+){{{classes}}})\s*,?\s*")
    ids, rows = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = pattern.fullmatch(line)
        try:
            if found is None or not found[1]:
                raise ValueError(count_noun(len(re.split(r"[ ,]+", line.strip())) - 1, "score"))
            rows.append([float(text) for text in re.split(r"[\s,]+", found[2].strip(" ,\t"))])
        except ValueError as error:
            if number == 1:
                continue  # headings
            raise FormatError(
                f"{path}:{number}: wanted a video id and {count_noun(classes, 'score')}, got "
                f"{error}"
            ) from error
        ids.append(found[1])
    if not ids:
        raise FormatError(
            f"{path} has no line of a video id and {count_noun(classes, 'score')}; a line of "
            "detections is a video id, start and end in seconds, class number and score"
        )
    return ids, np.array(rows)
