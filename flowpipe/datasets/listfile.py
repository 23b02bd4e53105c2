"""A list file -> VideoRecords: one path a line, TSN's lists with counts and labels, or CSV.

=================================== ==============================================================
``path``                            one video a line
``path label``                      label: a whole number from 0, or the name of a class
``path label label ...``            several labels a video, whole numbers
``path num_frames label ...``       as tsn-pytorch and mmaction2 write it
``path,label``                      CSV without a header; also with semicolons or tabs
``video_id,path,label,split``       CSV with a header; ``path`` is needed, the order is free, labels
                                    are names or whole numbers, several labels have ``|`` between,
                                    several splits spaces; also ``subset`` and ``num_frames``.
                                    Splits ``train``, ``val`` and ``test`` mean ``train1``, ``val1``
                                    and ``test1``; so do subsets where there is no column ``split``
=================================== ==============================================================

The reader picks the form under which the paths exist. Relative paths start at the folder of the
list, or at ``base``. A path may contain spaces; put it in double quotes if it ends in a number and
may not exist: ``"take 2" 0``. A comment starts with ``#`` and a space (file names may start with
``#``). Text is UTF-8; other bytes are kept, as in file names. All lines have the same form.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flowpipe.datasets.classes import read_class_names
from flowpipe.datasets.dataset import Dataset, DatasetRow
from flowpipe.datasets.ids import escape, id_of
from flowpipe.datasets.listlines import Columns, read_columns
from flowpipe.datasets.listnumbers import FORMS, numbers_before_labels
from flowpipe.datasets.listpaths import ListPaths
from flowpipe.errors import DatasetError, RemoteError
from flowpipe.remote import PathOrUrl, Url, open_path_or_url, parse_path_or_url
from flowpipe.splits import kind_of_split, split_name
from flowpipe.types import MAX_VIDEO_ID_BYTES, VideoRecord
from flowpipe.words import list_some

_MAX_LABEL = 99_999  # more classes than any data set has; a larger label is a misread frame count
_SEVERAL = re.compile(r"\s*[|;]\s*")


def load(
    root: PathOrUrl, *, class_names: PathOrUrl | None = None, base: PathOrUrl | None = None
) -> Dataset:
    """Read a list file; missing videos are only noticed when they are opened.

    Parameters
    ----------
    root : Path
        The list file.
    class_names : Path, optional
        File with the class names, one per line, in the order of the numeric labels; lines may read
        ``1 Name``, as in UCF101's classInd.txt.
    base : Path, optional
        Folder that relative paths start at and that ids are relative to; default: the list's own.

    Returns
    -------
    Dataset
        Videos of the list.

    Raises
    ------
    DatasetError
        If the list is unreadable or empty, mixes forms, or names a video or an id twice; the
        message names the file and the lines.
    """
    found = read_list(root, base)
    names = read_class_names(class_names) if class_names is not None else None
    return _dataset(found, names)


@dataclass(frozen=True)
class ReadList:
    """Contents of a list file."""

    columns: Columns
    paths: ListPaths
    there: list[str]
    """Path in each line, in the notation of this system."""
    full: list[str]
    """Absolute path or URL of each line."""
    note: str
    """Interpretation of the numbers after the paths; empty if there are none."""


def read_list(root: PathOrUrl, base: PathOrUrl | None = None) -> ReadList:
    """Read the lines of a list file; see `load` for the parameters and errors.

    Parameters
    ----------
    root : Path or URL
        The list file.
    base : Path or URL, optional
        Folder that relative paths start at; default: the list's own.

    Returns
    -------
    ReadList
        Its lines by column.
    """
    root = parse_path_or_url(root)
    if base is None:
        base = parse_path_or_url((root if isinstance(root, Url) else root.absolute()).parent)
    paths = ListPaths(base)
    columns = Columns(root)
    try:
        with (
            open_path_or_url(root) as raw,
            io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as file,
        ):
            read_columns(file, columns, paths.exists)
    except OSError as error:
        raise DatasetError(f"list {root} cannot be read: {error.strerror}") from error
    except RemoteError as error:
        raise DatasetError(f"the list cannot be read: {error}") from error
    if not columns.paths:
        raise DatasetError(f"{root} names no video; wanted one path a line or CSV with a header")
    there = [
        paths.translate_checked(path, f"{root}:{line}")
        if "\\" in path or path[1:2] == ":"
        else path
        for path, line in zip(columns.paths, columns.lines, strict=True)
    ]
    full = list(map(paths.full, there))
    note = _take_frames(columns, full) if columns.has_numbers else ""
    return ReadList(columns, paths, there, full, note)


def _dataset(found: ReadList, class_names: tuple[str, ...] | None) -> Dataset:
    columns, paths, count = found.columns, found.paths, len(found.full)
    notes = [found.note]
    names, index = labels_of(columns, class_names)
    if columns.ids:
        _check_ids(columns)
        ids = columns.ids
    else:
        plain, outside = paths.ids(found.there)
        _refuse_repeated(columns, plain, "path")
        ids = [id_of(path) for path in plain]
        notes.append(paths.note(outside, count))
    _refuse_repeated(columns, ids, "video id")
    # In a list without splits, the subsets train, val and test are the splits.
    parts = columns.splits or columns.subsets
    split_of = {text: tuple(dict.fromkeys(map(split_name, text.split()))) for text in {"", *parts}}
    if not columns.splits:
        split_of = {text: tuple(filter(kind_of_split, own)) for text, own in split_of.items()}
    records = tuple(
        VideoRecord(video_id, path, labels=index[label], subset=subset, splits=split_of[split])
        for video_id, path, label, subset, split in zip(
            ids,
            found.full,
            columns.labels or _same("", count),
            columns.subsets or _same("", count),
            parts or _same("", count),
            strict=True,
        )
    )
    return Dataset(
        "list",
        names,
        records,
        listed_frames=_frames(columns, ids),
        note="\n".join(filter(None, notes)),
        explain=_explainer(columns, ids, paths),
    )


def _take_frames(columns: Columns, full: list[str]) -> str:
    """Separate frame counts from labels; return a note that says how they were read."""
    before = numbers_before_labels(columns.labels, full.__getitem__)
    if before:
        rows = [text.split() for text in columns.labels]
        columns.frames = [row[before - 1] for row in rows]
        columns.labels = [" ".join(row[before:]) for row in rows]
    return (
        f"the lines of {columns.source} are read as 'path {FORMS[before]}'; if they mean something "
        "else, begin the list with column names, such as path,num_frames,label"
    )


def _frames(columns: Columns, ids: list[str]) -> dict[str, int]:
    found = {}
    for video_id, text, line in zip(ids, columns.frames, columns.lines, strict=False):
        if not text.strip():
            continue
        try:
            found[video_id] = int(text)
        except ValueError:
            raise DatasetError(
                f"{columns.source}:{line}: num_frames must be a whole number, got {text!r}"
            ) from None
    return found


def _parts(text: str) -> list[str]:
    """Split a cell into labels: names at ``|`` or ``;``, numbers also at spaces."""
    parts = [part for part in _SEVERAL.split(text.strip()) if part]
    numbers = [number for part in parts for number in part.split()]
    return numbers if all(map(_is_number, numbers)) else parts


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def labels_of(
    columns: Columns, names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Return the class names, and the labels of each text in the label column.

    Parameters
    ----------
    columns : Columns
        Columns of the list.
    names : tuple of str or None
        Class names; None if the list defines them.

    Returns
    -------
    class_names : tuple of str
        Names of the classes, by label.
    labels : dict of str to tuple of int
        Labels of each text.

    Raises
    ------
    DatasetError
        If a label is not among the class names.
    """
    parts = {text: _parts(text) for text in {"", *columns.labels}}
    single = {part for several in parts.values() for part in several}
    if single and all(map(_is_number, single)):
        highest = max(map(int, single))
        limit = _MAX_LABEL if names is None else len(names) - 1
        if highest > limit:
            raise DatasetError(
                f"{_where(columns, parts, lambda part: int(part) == highest)}: label {highest} is "
                f"too large, wanted 0 to {limit}; if it is a number of frames, add the label "
                "after it, as in 'path num_frames label', or put the path in double quotes"
            )
        names = names or tuple(map(str, range(highest + 1)))
        return names, {
            text: tuple(dict.fromkeys(map(int, several))) for text, several in parts.items()
        }
    if names is None:
        names = tuple(sorted(map(escape, single)))
    position = {name: k for k, name in enumerate(names)}
    for part in single:
        if escape(part) not in position:
            where = _where(columns, parts, part.__eq__)
            raise DatasetError(
                f"{where}: label {part!r} is not among the class names: {list_some(names, 10)}"
            )
    return names, {
        text: tuple(dict.fromkeys(position[escape(part)] for part in several))
        for text, several in parts.items()
    }


def _where(columns: Columns, parts: dict[str, list[str]], is_wanted: Callable[[str], bool]) -> str:
    """Return ``file:line`` of the first label that matches."""
    row = next(k for k, text in enumerate(columns.labels) if any(map(is_wanted, parts[text])))
    return f"{columns.source}:{columns.lines[row]}"


def _check_ids(columns: Columns) -> None:
    for video_id, line in zip(columns.ids, columns.lines, strict=True):
        size = len(video_id.encode("utf-8", "surrogatepass"))
        bare = video_id.replace("\\", "")
        if not 0 < size <= MAX_VIDEO_ID_BYTES or escape(bare) != bare:
            raise DatasetError(
                f"{columns.source}:{line}: a video id must have 1 to {MAX_VIDEO_ID_BYTES} bytes of "
                f"UTF-8 without control characters, got {size} bytes, {escape(video_id)!r}",
                reason="video_id",
            )


def _refuse_repeated(columns: Columns, keys: list[str], what: str) -> None:
    if len(set(keys)) == len(keys):
        return
    first: dict[str, int] = {}
    twice = []
    for key, line in zip(keys, columns.lines, strict=True):
        if key in first:
            twice.append(f"lines {first[key]} and {line}: {escape(key)}")
        first.setdefault(key, line)
    shown = "\n  ".join(twice[:10])
    more = f"\n  and {len(twice) - 10} more" if len(twice) > 10 else ""
    raise DatasetError(
        f"{columns.source} names a {what} twice; keep one line of each\n  {shown}{more}",
        reason="video_id",
    )


def _explainer(columns: Columns, ids: list[str], paths: ListPaths) -> Callable[[VideoRecord], str]:
    """Return a function that says which line names an absent video and what was searched for."""
    source, numbers = columns.source, columns.lines  # keeps the other columns out of memory
    lines: dict[str, int] = {}

    def explain(record: VideoRecord) -> str:
        if not lines:
            lines.update(zip(ids, numbers, strict=True))
        return f"{source}:{lines[record.video_id]}: {paths.describe_missing(record.path)}"

    return explain


def _same(text: str, count: int) -> Iterable[str]:
    return (text for _ in range(count))


ROW = DatasetRow(
    "list",
    "a text or CSV file with one path per line",
    load,
    own=True,
    options=("class_names", "base"),
    is_file=True,
)
