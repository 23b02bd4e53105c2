"""Counts and names -> texts for messages: plurals, units, and suggestions for mistyped names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

_FUZZY_AT_MOST = 20_000
"""Largest number of names that are compared letter by letter."""
_FEW = 12
"""Largest number of known names that are listed beside a suggestion."""
_LISTED = 30
"""Largest number of known names that a message lists."""
CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""C0 except newline and tab, DEL, C1, line separators, bidirectional embeddings, overrides and
isolates, and surrogates, which stand for bytes that are not UTF-8."""


def count_noun(count: int, singular: str, plural: str = "") -> str:
    """Return a count and its noun.

    Parameters
    ----------
    count : int
        Number of things.
    singular : str
        Noun for one.
    plural : str
        Noun for more; by default with an s.

    Returns
    -------
    str
        Both, with the right form.

    Examples
    --------
    >>> count_noun(1, "video"), count_noun(1200, "video"), count_noun(2, "class", "classes")
    ('1 video', '1200 videos', '2 classes')
    """
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"


def duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours.

    Parameters
    ----------
    seconds : float
        Duration, seconds.

    Returns
    -------
    str
        Text.
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def list_some(names: Sequence[str], most: int = 3) -> str:
    """List the first of some names, followed by dots if there are more.

    Parameters
    ----------
    names : sequence of str
        All names.
    most : int
        Number of names to list.

    Returns
    -------
    str
        Names with commas.
    """
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def agree_verb(count: int, singular: str, plural: str) -> str:
    """Return the form of a verb that agrees with a count.

    Parameters
    ----------
    count : int
        Number of things.
    singular : str
        Form for one.
    plural : str
        Form for more.

    Returns
    -------
    str
        One of both.

    Examples
    --------
    >>> agree_verb(1, "has", "have"), agree_verb(2, "has", "have")
    ('has', 'have')
    """
    return singular if count == 1 else plural


def byte_size(count: float) -> str:
    """Format a number of bytes in a decimal unit.

    Parameters
    ----------
    count : float
        Bytes.

    Returns
    -------
    str
        Text.
    """
    if count < 1000:
        return count_noun(round(count), "byte")
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.95 or unit == "TB":
            break
    return f"{count:.1f} {unit}"


def nearest_names(name: str, known: Collection[str], most: int = 1) -> list[str]:
    """Find known names that resemble an unknown one.

    Names that differ only in case or by an extension come first, then similar spellings, then names
    that contain it.

    Parameters
    ----------
    name : str
        The unknown name.
    known : collection of str
        Known names.
    most : int
        Most names to return.

    Returns
    -------
    list of str
        Names, the nearest first.
    """
    wanted = name.casefold()
    stem = wanted.rpartition(".")[0] or wanted
    folded = {one: one.casefold() for one in known}
    found = [one for one, text in folded.items() if wanted == text]
    found += [one for one, text in folded.items() if text.startswith(f"{wanted}.")]
    found += [one for one, text in folded.items() if text.rpartition(".")[0] == stem]
    if len(folded) <= _FUZZY_AT_MOST:
        spelled = difflib.get_close_matches(wanted, set(folded.values()), n=most)
        found += [one for text in spelled for one in folded if folded[one] == text]
    if wanted:
        found += [one for one, text in folded.items() if wanted in text]
    return list(dict.fromkeys(found))[:most]


def suggest(names: Sequence[str]) -> str:
    """Ask whether one of some names was meant.

    Parameters
    ----------
    names : sequence of str
        Names.

    Returns
    -------
    str
        Question.
    """
    return f"did you mean {' or '.join(names)}?"


def did_you_mean(name: str, known: Collection[str], most: int = 1) -> str:
    """Return the end of a message about an unknown name.

    Parameters
    ----------
    name : str
        The unknown name.
    known : collection of str
        Known names.
    most : int
        Most names to suggest.

    Returns
    -------
    str
        The nearest names as a question, or else the known ones.
    """
    close = nearest_names(name, known, most)
    return suggest(close) if close else _list_known(known)


def _list_known(known: Collection[str]) -> str:
    return f"known: {list_some([*known], _LISTED) or 'none'}"


def unknown_name(kind: str, name: str, known: Collection[str], most: int = 1) -> str:
    """Return the message about an unknown name.

    Every place where a user chooses by name uses it: commands, options and their values, values of
    recipes, data sets, modalities, splits, videos.

    Parameters
    ----------
    kind : str
        Kind of name, or the option that has it: ``split``, ``--dataset``.
    name : str
        The unknown name.
    known : collection of str
        All valid names.
    most : int
        Largest number of suggestions.

    Returns
    -------
    str
        The message with the nearest names, and with the known ones if they are few or none is near.

    Examples
    --------
    >>> unknown_name("split", "tset1", ["train1", "test1"])
    "split 'tset1' is unknown; did you mean test1? known: train1, test1"
    """
    close = nearest_names(name, known, most)
    ends = [suggest(close)] if close else []
    if not close or len(known) <= _FEW:
        ends.append(_list_known(known))
    return f"{kind} {name!r} is unknown; {' '.join(ends)}"


def escape_control(text: str) -> str:
    """Return the text with control characters written as escapes such as ``\\x1b``.

    Newlines and tabs stay. A byte of a path that is not UTF-8 becomes ``\\xNN`` too.

    Parameters
    ----------
    text : str
        Text of any origin.

    Returns
    -------
    str
        Text that is safe to print on a terminal.
    """
    return CONTROLS.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte, see os.fsdecode
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
