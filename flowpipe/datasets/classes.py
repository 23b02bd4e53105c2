"""A file of class names -> the names in the order of the labels."""

from __future__ import annotations

import re
from pathlib import Path

from flowpipe.datasets.texts import read_text
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl


def read_class_names(path: PathOrUrl) -> tuple[str, ...]:
    """Read class names, one per line.

    Leading numbers, as in UCF101's classInd.txt, are removed.

    Parameters
    ----------
    path : Path or URL
        File of names.

    Returns
    -------
    tuple of str
        Names, by label.

    Raises
    ------
    DatasetError
        If the file cannot be read, is empty, or names a class twice.
    """
    return class_names_in(read_text(path, "class names"), path)


def class_names_in(text: str, path: str | Path) -> tuple[str, ...]:
    """Parse class names; see `read_class_names`.

    Parameters
    ----------
    text : str
        Content of the file.
    path : path
        Its file, for messages.

    Returns
    -------
    tuple of str
        Names, by label.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+)\s+(\S.*)", line) for line in lines]
    if all(numbered):
        lines = [found[2] for found in numbered if found is not None]
    if not lines:
        raise DatasetError(f"{path} contains no class name; wanted one name per line")
    if len(set(lines)) < len(lines):
        raise DatasetError(f"{path} contains a class name twice; remove one of them")
    return tuple(lines)
