"""Arguments of `extract_job`, Python's values -> checked values, as of the command's options.

A list of names, a pair of numbers or a mapping means the same as the text of the option.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowpipe.errors import UsageError
from flowpipe.remote import PathOrUrl, parse_path_or_url
from flowpipe.splits import split_name
from flowpipe.words import unknown_name

Names = str | Sequence[str]
"""Names as a list, or as a text with commas: ``["rgb", "flow"]`` or ``"rgb,flow"``."""
Lists = Mapping[str, str | PathOrUrl] | Sequence[tuple[str, str | PathOrUrl]]
"""List files by split: ``{"train": "train.txt"}``."""
Settings = str | Sequence[str] | Mapping[str, Any]
"""Changes of a recipe: ``{"bound": 15}``, ``"bound=15"`` or several such texts."""


def path_of(name: str, value: str | PathOrUrl | None) -> PathOrUrl | None:
    """Return a path or URL; None stays None.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : str, path or None
        Value that the user gave.

    Returns
    -------
    Path, Url or None
        The path or URL.
    """
    if value is None:
        return None
    if not isinstance(value, (str, PathOrUrl, os.PathLike)) or not str(value):
        raise _wrong(name, "a path or a URL", value)
    return parse_path_or_url(value if isinstance(value, (str, PathOrUrl)) else os.fspath(value))


def local_path_of(name: str, value: str | Path) -> Path:
    """Return a path; a URL is refused.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : str or path
        Value that the user gave.

    Returns
    -------
    Path
        The path.
    """
    path = path_of(name, value)
    if not isinstance(path, Path):
        raise _wrong(name, "a path on a disk of this machine or network", value)
    return path


def names_of(name: str, value: Names | None) -> str | None:
    """Return names with commas between them.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : str, sequence of str or None
        Value that the user gave.

    Returns
    -------
    str or None
        Names; None stays None.
    """
    if value is None or isinstance(value, str):
        return value
    if not all(isinstance(one, str) for one in _several(name, value)):
        raise _wrong(name, "names", value)
    return ",".join(value)


def size_of(value: str | tuple[int, int] | None) -> str | None:
    """Return ``WIDTHxHEIGHT`` of a text or a pair.

    Parameters
    ----------
    value : str, (int, int) or None
        Width and height, pixels.

    Returns
    -------
    str or None
        Size as text; None stays None.
    """
    if value is None or isinstance(value, str):
        return value
    width, height = _pair("size", value, 'two whole numbers or text, as (340, 256) or "340x256"')
    return f"{width}x{height}"


def part_of(value: str | tuple[int, int]) -> tuple[int, int]:
    """Return i and n of ``"i/n"`` or of a pair.

    Parameters
    ----------
    value : str or (int, int)
        Share of the videos, counted from 1.

    Returns
    -------
    (int, int)
        The two numbers.
    """
    if isinstance(value, str):
        index, _, count = value.partition("/")
        numbers = (int(index), int(count)) if index.isdigit() and count.isdigit() else (0, 0)
    else:
        numbers = _pair("part", value, 'two whole numbers or text, as (3, 8) or "3/8"')
    if not 1 <= numbers[0] <= numbers[1]:
        raise UsageError(f"--part wants i/n with 1 <= i <= n, such as 3/8, got {value}")
    return numbers


def lists_of(value: Lists) -> list[tuple[str, PathOrUrl]]:
    """Return pairs of a split, by its full name, and the list of its videos.

    Parameters
    ----------
    value : mapping or sequence of pairs
        List files by split.

    Returns
    -------
    list of (str, Path or Url)
        Splits, such as ``train1``, and list files.
    """
    pairs = value.items() if isinstance(value, Mapping) else _several("lists", value)
    found = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[0], str):
            raise _wrong("lists", 'files by split, as {"train": "train.txt"}', value)
        path = path_of("lists", pair[1])
        assert path is not None
        found.append((split_name(pair[0]), path))
    return found


def settings_of(value: Settings) -> list[str]:
    """Return texts ``key=value``.

    Parameters
    ----------
    value : str, sequence of str or mapping
        Changes of a recipe.

    Returns
    -------
    list of str
        One text per change.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [f"{key}={json.dumps(one)}" for key, one in value.items()]
    settings = list(_several("settings", value))
    if not all(isinstance(one, str) for one in settings):
        raise _wrong("settings", 'texts as "bound=15" or a mapping as {"bound": 15}', value)
    return settings


def check_choice(name: str, value: str, known: Collection[str]) -> None:
    """Raise UsageError, with the nearest name, if a value is not one of the known ones.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : str
        Value that the user gave.
    known : collection of str
        Values that the argument may have.
    """
    if value not in known:
        raise UsageError(unknown_name(name, str(value), known))


def check_whole(name: str, value: int | None, least: int) -> None:
    """Raise UsageError unless a value is None or a whole number of at least `least`.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : int or None
        Value that the user gave.
    least : int
        Smallest value.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _wrong(name, f"a whole number of at least {least}", value)


def check_number(
    name: str, value: float | None, least: float, most: float = math.inf, *, inside: bool = False
) -> None:
    """Raise UsageError unless a value is None or a number from `least` to `most`.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : float or None
        Value that the user gave.
    least : float
        Smallest value.
    most : float
        Largest value.
    inside : bool
        True to exclude both ends.
    """
    if value is None:
        return
    wanted = f"a number of at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
    if inside:
        wanted = f"a number above {least:g}" + (f" and below {most:g}" if most < math.inf else "")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(name, wanted, value)
    if not (least < value < most if inside else least <= value <= most):
        raise _wrong(name, wanted, value)


def _several(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise _wrong(name, "a list", value)
    return value


def _pair(name: str, value: Any, wanted: str) -> tuple[int, int]:
    whole = isinstance(value, Sequence) and all(type(one) is int for one in value)
    if not whole or len(value) != 2:
        raise _wrong(name, wanted, value)
    return value[0], value[1]


def _wrong(name: str, wanted: str, value: object) -> UsageError:
    shown = str(value) if isinstance(value, Path) else repr(value)
    return UsageError(f"{name} must be {wanted}; got {shown}")
