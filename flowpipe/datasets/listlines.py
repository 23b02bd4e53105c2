"""Text of a list file -> columns: paths, labels, splits, frame counts.

The form of a list is chosen once: the form under which most of its first lines name an existing
file, or else a file with the extension of a video.
"""

from __future__ import annotations

import csv
import re
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain, islice
from typing import TextIO

from flowpipe.datasets.file_kinds import is_video
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl
from flowpipe.words import count_noun, unknown_name

COLUMNS = ("video_id", "path", "label", "split", "subset", "num_frames")

_COMMENT = re.compile(r"#(\s|$)")
_QUOTED = re.compile(r'"([^"]+)"((?:\s+\d+)*)')
_NAMED = re.compile(r'"?(.+?\.\w+)"?\s+(\S.*)')
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SAMPLE = 64

Split = Callable[[str], tuple[str, list[str]] | None]
Lines = Iterator[tuple[int, str]]


@dataclass
class Columns:
    """Columns of a list file; a column that the list lacks is empty."""

    source: PathOrUrl
    _: KW_ONLY
    paths: list[str] = field(default_factory=list)
    lines: array[int] = field(default_factory=lambda: array("q"))
    """Line number of each video; an array takes a quarter of the memory of a list."""
    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Text of the label in each line; several whole numbers are separated by spaces."""
    splits: list[str] = field(default_factory=list)
    subsets: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    """Text of the frame count in each line."""
    has_numbers: bool = False
    """True if `labels` holds all numbers after each path, which may include frame counts."""


def read_columns(file: TextIO, columns: Columns, exists: Callable[[str], bool]) -> None:
    """Read the lines of a list file.

    Parameters
    ----------
    file : text file
        The open list.
    columns : Columns
        Columns that the lines are added to.
    exists : callable
        Function of a path of the list that tells whether it exists.

    Raises
    ------
    DatasetError
        If lines have several forms; the message names the file and the line.
    """
    lines = enumerate(file, 1)
    for number, line in lines:
        if "\0" in line:
            raise DatasetError(
                f"{columns.source}:{number} contains a NUL byte, so it is not UTF-8 text; "
                "save the list as UTF-8"
            )
        text = line.strip()
        if not text or _COMMENT.match(text):
            continue
        found = _header(text, f"{columns.source}:{number}")
        if found is not None:
            _read_csv(file, columns, found[1], number, found[0])
            return
        first = [(number, line), *islice(lines, _SAMPLE - 1)]
        form = _form([text for _, text in first], exists)
        _read_lines(chain(first, lines), columns, form)
        return


def _header(text: str, where: str) -> tuple[str, list[str]] | None:
    """Return delimiter and column names of a CSV header; None if the line is not a header."""
    for delimiter in _DELIMITERS:
        names = [cell.strip().lower() for cell in _cells(text, delimiter)]
        if "path" in names and (len(names) > 1 or text.lower() == "path"):
            return delimiter, names
        if len(names) > 1 and {"video_id", "label", "split"} & set(names):
            raise DatasetError(
                f"{where} looks like a CSV header without a path column: {text}; "
                f"wanted path, and any of {', '.join(COLUMNS)}"
            )
    return None


def _form(sample: Iterable[str], exists: Callable[[str], bool]) -> str:
    """Return the form, a key of `_SPLITS`, under which most lines of a sample name a video."""
    texts = [text.strip() for text in sample]
    texts = [text for text in texts if text and not _COMMENT.match(text)]
    scores = dict.fromkeys(_SPLITS, 0)
    for text in texts:
        known: dict[str, int] = {}
        for form, split in _SPLITS.items():
            found = split(text)
            if found is None:
                continue
            path = found[0]
            if path not in known:
                known[path] = 3 if exists(path) else int(is_video(path))
            scores[form] += known[path]
    return max(scores, key=lambda form: scores[form])  # the first of the best


def _read_lines(lines: Lines, columns: Columns, form: str) -> None:
    split, paths, labels, numbers = _SPLITS[form], columns.paths, columns.labels, columns.lines
    widths: dict[int, int] = {}
    numeric = True
    for number, line in lines:
        text = line.strip()
        if not text or text[0] == "#" and _COMMENT.match(text):
            continue
        found = split(text)
        path, values = found if found is not None else (text, [])
        width = len(values)
        if width not in widths:
            widths[width] = number
            if 0 in widths and len(widths) > 1:
                one, other = widths[0], next(n for w, n in widths.items() if w)
                last, before = max(one, other), min(one, other)
                kinds = {one: "path", other: "path label"}
                raise DatasetError(
                    f"{columns.source}:{last} reads as '{kinds[last]}', but line {before} as "
                    f"'{kinds[before]}'; give all lines the same form, and put paths that end in a "
                    "number in double quotes"
                )
        if not path:
            raise DatasetError(f"{columns.source}:{number} has no path: {text}")
        paths.append(path)
        numbers.append(number)
        if width:
            if numeric and not all(value.isascii() and value.isdecimal() for value in values):
                numeric = False
            if not numeric and width > 1:
                raise DatasetError(
                    f"{columns.source}:{number} has {width + 1} columns and the list no header; "
                    "begin the list with a line of column names, such as path,label,split"
                )
            labels.append(sys.intern(" ".join(values)))
    columns.has_numbers = bool(labels) and numeric and max(widths, default=0) > 1
    if max(widths, default=0) > 1 and not numeric:
        at = next(n for w, n in widths.items() if w > 1)
        raise DatasetError(
            f"{columns.source}:{at} has several labels and others have names; begin the list "
            "with a line of column names, such as path,label, and write several labels as a|b"
        )


def _split_numbers(text: str) -> tuple[str, list[str]]:
    """Split a line into the path and the whole numbers after it."""
    if text[0] == '"':
        quoted = _QUOTED.fullmatch(text)
        if quoted is not None:
            return quoted[1], quoted[2].split()
    values: list[str] = []
    while "0" <= text[-1] <= "9":  # most lines of plain lists end here
        rest = text.rsplit(None, 1)
        if len(rest) < 2 or not (rest[1].isascii() and rest[1].isdecimal()):
            break
        text = rest[0]
        values.insert(0, rest[1])
    return text, values


def _split_whole(text: str) -> tuple[str, list[str]]:
    quoted = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else ""
    return (quoted if quoted and '"' not in quoted else text), []


def _split_named(text: str) -> tuple[str, list[str]] | None:
    """Split a line into a path with the extension of a video and a class name."""
    found = _NAMED.fullmatch(text)
    return (found[1], [found[2]]) if found is not None and is_video(found[1]) else None


def _split_at(delimiter: str) -> Split:
    def split(text: str) -> tuple[str, list[str]] | None:
        if delimiter not in text:
            return None
        path, *values = (cell.strip() for cell in _cells(text, delimiter))
        while values and not values[-1]:
            values.pop()  # spreadsheets fill short rows with empty cells
        numbers = [part for value in values for part in value.split()]
        if all(part.isascii() and part.isdecimal() for part in numbers):
            values = numbers
        return path, values

    return split


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [text])
    except csv.Error:
        return [text]


_SPLITS: dict[str, Split] = {
    "path and numbers": _split_numbers,
    "path": _split_whole,
    **{f"path and cells between {name}": _split_at(d) for d, name in _DELIMITERS.items()},
    "path and name": _split_named,
}


def _read_csv(
    file: TextIO, columns: Columns, header: list[str], first: int, delimiter: str
) -> None:
    for name in header:
        if name not in COLUMNS:
            raise DatasetError(f"{columns.source}:{first}: {unknown_name('column', name, COLUMNS)}")
    if len(set(header)) < len(header):
        raise DatasetError(
            f"{columns.source}:{first} has columns {', '.join(header)}; "
            f"wanted path and any of {', '.join(COLUMNS)}, each once"
        )
    named: dict[str, list[str]] = {
        "video_id": columns.ids,
        "path": columns.paths,
        "label": columns.labels,
        "split": columns.splits,
        "subset": columns.subsets,
        "num_frames": columns.frames,
    }
    takers = [named[name].append for name in header]
    shared = [name in ("label", "split", "subset") for name in header]
    place, width = header.index("path"), len(header)
    reader = csv.reader(file, delimiter=delimiter)
    while True:
        line = first + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DatasetError(f"{columns.source}:{line} is no CSV: {error}") from error
        if cells is None:
            break
        if not cells or (len(cells) == 1 and _COMMENT.match(cells[0])):
            continue
        if len(cells) != width or not cells[place]:
            raise DatasetError(
                f"{columns.source}:{line} has {count_noun(len(cells), 'column')}, wanted {width} "
                f"({', '.join(header)}) with a path; put cells that hold {_DELIMITERS[delimiter]} "
                "in double quotes"
            )
        for take, few, cell in zip(takers, shared, cells, strict=True):
            take(sys.intern(cell) if few else cell)
        columns.lines.append(line)
