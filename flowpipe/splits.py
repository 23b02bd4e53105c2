"""Names of splits: ``train<k>``, ``val<k>`` and ``test<k>``, and which of them each phase takes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Protocol

_NAMED = re.compile(r"(train|val|test)(\d+)")
_SPELLINGS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


class InSplits(Protocol):
    """A video, or a record of one."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits of the video."""


def split_names(videos: Iterable[InSplits]) -> list[str]:
    """List the splits of some videos.

    Parameters
    ----------
    videos : iterable of InSplits
        Videos or their records.

    Returns
    -------
    list of str
        Names, sorted.
    """
    return sorted({name for video in videos for name in video.splits})


def split_name(name: str) -> str:
    """Return the name of a split as stores spell it.

    ``train``, ``training``, ``val``, ``validation``, ``test`` and ``testing`` in any case, with or
    without a number, become ``train<k>``, ``val<k>`` or ``test<k>``; the number is 1 where there is
    none. Any other name stays as it is.

    Parameters
    ----------
    name : str
        Name of a split.

    Returns
    -------
    str
        Name in stores.

    Examples
    --------
    >>> split_name("Training"), split_name("val2"), split_name("fold3")
    ('train1', 'val2', 'fold3')
    """
    found = re.fullmatch(r"([A-Za-z]+?)_?(\d*)", name)
    known = _SPELLINGS.get(found[1].lower()) if found else None
    return f"{known}{found[2] or 1}" if found and known else name


def kind_of_split(name: str) -> tuple[str, int] | None:
    """Parse the name of a split.

    Parameters
    ----------
    name : str
        Name of a split.

    Returns
    -------
    (str, int) or None
        ``train``, ``val`` or ``test``, and the number; None for other names.
    """
    found = _NAMED.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def validation_split(names: Collection[str], number: int) -> str:
    """Choose the split for validation.

    Parameters
    ----------
    names : collection of str
        Splits that exist.
    number : int
        Number of the split, from 1.

    Returns
    -------
    str
        ``val<k>``, or ``test<k>`` if there is none.
    """
    own = f"val{number}"
    return own if own in names else f"test{number}"


def test_split(names: Collection[str], number: int) -> str:
    """Choose the split for testing.

    Parameters
    ----------
    names : collection of str
        Splits that exist.
    number : int
        Number of the split, from 1.

    Returns
    -------
    str
        ``test<k>``, or ``val<k>`` if only that exists.
    """
    own, other = f"test{number}", f"val{number}"
    return other if own not in names and other in names else own


def test_splits(names: Iterable[str]) -> tuple[str, ...]:
    """Choose all splits for testing, one of each number, as `test_split` does.

    Parameters
    ----------
    names : iterable of str
        Splits that exist.

    Returns
    -------
    tuple of str
        Names, sorted.
    """
    there = {split_name(name): name for name in names}
    kinds = [kind for kind in map(kind_of_split, there) if kind and kind[0] != "train"]
    return tuple(there[test_split(there, number)] for number in sorted({n for _, n in kinds}))
