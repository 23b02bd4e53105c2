"""A list file -> VideoRecords: one path a line, TSN's lists with counts and labels, or CSV.

Three forms, told apart by the first line that is no comment:

=================================== ==============================================================
``path``                            one video a line
``path label``                      label: a whole number from 0
``path num_frames label``           as tsn-pytorch and mmaction write it; num_frames is not used
``video_id,path,label,split``       CSV with a header; ``path`` is needed, the order is free, labels
                                    are names or whole numbers, several splits have spaces between
=================================== ==============================================================

Relative paths start at the list's folder. Spaces in a path need no care; a path that ends in a
number after a space does, and is put in double quotes: ``"take 2" 0``. A comment is ``#`` and a
space (file names may begin with ``#``). Text is UTF-8; bytes that are not stay as they are, as file
names do. All lines of a list have the same form.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import TextIO

from flowpipe.datasets.classes import read_class_names
from flowpipe.datasets.dataset import Dataset
from flowpipe.datasets.ids import escape, id_of
from flowpipe.errors import DatasetError, RemoteError
from flowpipe.remote import Place, Url, is_url, open_place, place
from flowpipe.types import MAX_VIDEO_ID_BYTES, VideoRecord

_COMMENT = re.compile(r"#(\s|$)")
_QUOTED = re.compile(r'"([^"]+)"((?:\s+\d+){0,2})')
_COLUMNS = ("video_id", "path", "label", "split", "subset")
_FORMS = ("path", "path label", "path num_frames label")
_MAX_LABEL = 99_999  # more classes than any data set has; a larger label is a misread frame count


def load(root: Place, *, class_names: Place | None = None) -> Dataset:
    """Read a list file. The videos are not looked at: what is missing shows when they are opened.

    Parameters
    ----------
    root : Path
        The list file.
    class_names : Path, optional
        File with the class names, one a line, in the order of the numeric labels; ``1 Name`` lines
        as in UCF101's classInd.txt are understood.

    Raises
    ------
    DatasetError
        If the list cannot be read, is empty, mixes forms, or names a video or an id twice; the
        message names the file and the lines.
    """
    root = place(root)
    try:
        with (
            open_place(root) as raw,
            io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as file,
        ):
            rows = _Rows(root)
            _read(file, rows)
    except OSError as error:
        raise DatasetError(f"cannot read list {root}: {error.strerror}") from error
    except RemoteError as error:
        raise DatasetError(f"cannot read list: {error}") from error
    if not rows.paths:
        raise DatasetError(f"{root} names no video; wanted one path a line or CSV with a header")
    return rows.dataset(read_class_names(class_names) if class_names is not None else None)


class _Rows:
    """Columns of the list read so far."""

    def __init__(self, source: Place) -> None:
        self.source = source
        self.folder = str((source if isinstance(source, Url) else source.absolute()).parent)
        self.paths: list[str] = []
        self.lines = array("q")  # a list of a million numbers would take four times as much
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.splits: list[str] = []
        self.subsets: list[str] = []

    def dataset(self, class_names: tuple[str, ...] | None) -> Dataset:
        names, index = self._classes(class_names)
        ids = self.ids or self._ids_of_paths()
        self._refuse_repeated(ids, "video id")
        split_of = {text: tuple(text.split()) for text in {"", *self.splits}}
        count = len(self.paths)
        is_absolute, folder = _is_absolute, self.folder
        records = tuple(
            VideoRecord(
                video_id,
                path if is_absolute(path) else f"{folder}/{path}",
                index[label],
                subset,
                split_of[split],
            )
            for video_id, path, label, subset, split in zip(
                ids,
                self.paths,
                self.labels or _same("", count),
                self.subsets or _same("", count),
                self.splits or _same("", count),
                strict=True,
            )
        )
        return Dataset("list", names, records)

    def _ids_of_paths(self) -> list[str]:
        plain = [os.path.normpath(path).replace(os.sep, "/").lstrip("/") for path in self.paths]
        self._refuse_repeated(plain, "path")
        return [id_of(path) for path in plain]

    def _classes(
        self, names: tuple[str, ...] | None
    ) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
        """Class names, and from the text of a label to labels."""
        texts = set(self.labels) - {""}
        index: dict[str, tuple[int, ...]] = {"": ()}
        if texts and all(text.isdecimal() for text in texts):
            highest = max(map(int, texts))
            limit = _MAX_LABEL if names is None else len(names) - 1
            if highest > limit:
                raise DatasetError(
                    f"{self._where_label(highest)}: label {highest} is too large, wanted 0 to "
                    f"{limit}; is it a number of frames? Then add the label after it, as in "
                    "'path num_frames label', or put the path in double quotes"
                )
            index |= {text: (int(text),) for text in texts}
            return names or tuple(map(str, range(highest + 1))), index
        if names is None:
            names = tuple(sorted(map(escape, texts)))
        position = {name: k for k, name in enumerate(names)}
        for text in texts:
            if escape(text) not in position:
                line = self.lines[self.labels.index(text)]
                raise DatasetError(
                    f"{self.source}:{line}: label {text!r} is none of the {len(names)} class names"
                )
            index[text] = (position[escape(text)],)
        return names, index

    def _where_label(self, label: int) -> str:
        row = next(k for k, text in enumerate(self.labels) if text and int(text) == label)
        return f"{self.source}:{self.lines[row]}"

    def _refuse_repeated(self, keys: list[str], what: str) -> None:
        if len(set(keys)) == len(keys):
            return
        first: dict[str, int] = {}
        twice = []
        for key, line in zip(keys, self.lines, strict=True):
            if key in first:
                twice.append(f"lines {first[key]} and {line}: {escape(key)}")
            first.setdefault(key, line)
        shown = "\n  ".join(twice[:10])
        more = f"\n  and {len(twice) - 10} more" if len(twice) > 10 else ""
        raise DatasetError(
            f"{self.source} names a {what} twice; keep one line of each\n  {shown}{more}",
            reason="video_id",
        )


def _is_absolute(path: str) -> bool:
    return path[:1] == os.sep or (is_url(path) and bool(place(path)))


def _same(text: str, count: int) -> Iterable[str]:
    return (text for _ in range(count))


def _read(file: TextIO, rows: _Rows) -> None:
    lines = enumerate(file, 1)
    for number, line in lines:
        if "\0" in line:
            raise DatasetError(
                f"{rows.source}:{number} has a NUL byte, so it is no UTF-8 text; "
                "save the list as UTF-8"
            )
        text = line.strip()
        if not text or _COMMENT.match(text):
            continue
        header = [name.strip().lower() for name in next(csv.reader([text]))]
        if "path" in header and (len(header) > 1 or text.lower() == "path"):
            _read_csv(file, rows, header, number)
        elif len(header) > 1 and {"video_id", "label", "split"} & set(header):
            raise DatasetError(
                f"{rows.source}:{number} looks like a CSV header without a path column: {text}; "
                f"wanted path, and any of {', '.join(_COLUMNS)}"
            )
        else:
            _read_lines(_chain(number, line, lines), rows)
        return


def _chain(number: int, line: str, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield number, line
    yield from lines


def _read_lines(lines: Iterable[tuple[int, str]], rows: _Rows) -> None:
    paths, labels, numbers = rows.paths, rows.labels, rows.lines
    form: int | None = None
    for number, line in lines:
        text = line.strip()
        if not text or text[0] == "#" and _COMMENT.match(text):
            continue
        path, values = _split_line(text)
        if len(values) != form:
            if form is not None:
                raise DatasetError(
                    f"{rows.source}:{number} reads as '{_FORMS[len(values)]}', but line "
                    f"{numbers[0]} as '{_FORMS[form]}'; give all lines the same form, and put "
                    "paths that end in a number in double quotes"
                )
            form = len(values)
        paths.append(path)
        numbers.append(number)
        if values:
            labels.append(sys.intern(values[-1]))


def _split_line(text: str) -> tuple[str, list[str]]:
    """The path, and up to two whole numbers after it."""
    if text[0] == '"':
        quoted = _QUOTED.fullmatch(text)
        if quoted is not None:
            return quoted[1], quoted[2].split()
    values: list[str] = []
    while len(values) < 2 and "0" <= text[-1] <= "9":  # most lines of plain lists end here
        rest = text.rsplit(None, 1)
        if len(rest) < 2 or not (rest[1].isascii() and rest[1].isdecimal()):
            break
        text = rest[0]
        values.insert(0, rest[1])
    return text, values


def _read_csv(file: TextIO, rows: _Rows, header: list[str], first: int) -> None:
    unknown = [name for name in header if name not in _COLUMNS]
    repeated = len(set(header)) < len(header)
    if unknown or repeated:
        raise DatasetError(
            f"{rows.source}:{first} has columns {', '.join(header)}; "
            f"wanted path and any of {', '.join(_COLUMNS)}, each once"
        )
    columns: dict[str, list[str]] = {
        "video_id": rows.ids,
        "path": rows.paths,
        "label": rows.labels,
        "split": rows.splits,
        "subset": rows.subsets,
    }
    takers = [columns[name].append for name in header]
    shared = [name in ("label", "split", "subset") for name in header]
    place, width = header.index("path"), len(header)
    reader = csv.reader(file)
    while True:
        line = first + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DatasetError(f"{rows.source}:{line} is no CSV: {error}") from error
        if cells is None:
            break
        if not cells or (len(cells) == 1 and _COMMENT.match(cells[0])):
            continue
        if len(cells) != width or not cells[place]:
            raise DatasetError(
                f"{rows.source}:{line} has {len(cells)} columns, wanted {width} "
                f"({', '.join(header)}) with a path; put cells with commas in double quotes"
            )
        for take, few, cell in zip(takers, shared, cells, strict=True):
            take(sys.intern(cell) if few else cell)
        rows.lines.append(line)
    for video_id, line in zip(rows.ids, rows.lines, strict=False):
        size = len(video_id.encode("utf-8", "surrogatepass"))
        bare = video_id.replace("\\", "")
        if not 0 < size <= MAX_VIDEO_ID_BYTES or escape(bare) != bare:
            raise DatasetError(
                f"{rows.source}:{line}: a video id must have 1 to {MAX_VIDEO_ID_BYTES} bytes of "
                f"UTF-8 without control characters, got {size} bytes, {escape(video_id)!r}",
                reason="video_id",
            )
