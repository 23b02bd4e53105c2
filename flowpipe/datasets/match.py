"""A tree of files + the keys that official lists use -> which file is which video, and the rest."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable

from flowpipe.datasets.file_kinds import is_video
from flowpipe.datasets.ids import escape, without_extension
from flowpipe.datasets.tree import Tree
from flowpipe.errors import DatasetError
from flowpipe.words import count_noun


def stem(name: str) -> str:
    """File name without folder and extension."""
    return without_extension(posixpath.basename(name))


def match(
    tree: Tree,
    keys: Iterable[str],
    key_of: Callable[[str], str] = stem,
    *,
    any_case: bool = False,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the videos of official lists in a tree, in whatever folders they lie.

    Parameters
    ----------
    tree : Tree
    keys : iterable of str
        What the lists call the videos.
    key_of : callable
        Name of a file in the tree -> its key.
    any_case : bool
        Where a key is found nowhere, take a file whose key differs in upper and lower case only.

    Returns
    -------
    paths : dict
        Path by key, in the order of `keys`; empty where there is no file.
    unlisted : tuple of str
        Paths of the videos that no key names, sorted.

    Raises
    ------
    DatasetError
        If keys have several files: all of them are named.
    """
    wanted = dict.fromkeys(keys)
    folded = {key.casefold(): key for key in wanted} if any_case else {}
    exact: dict[str, list[str]] = {}
    loose: dict[str, list[str]] = {}
    unlisted = []
    for name in filter(is_video, tree.files):
        key = key_of(name)
        if key in wanted:
            exact.setdefault(key, []).append(name)
        elif key.casefold() in folded:
            loose.setdefault(folded[key.casefold()], []).append(name)
        else:
            unlisted.append(tree.path(name))
    found = loose | exact
    unlisted += [tree.path(name) for key in loose.keys() & exact.keys() for name in loose[key]]
    twice = {key: names for key, names in found.items() if len(names) > 1}
    if twice:
        shown = "\n  ".join(
            f"{escape(key)}: {' and '.join(map(tree.path, names))}"
            for key, names in sorted(twice.items())[:10]
        )
        more = f"\n  and {len(twice) - 10} more" if len(twice) > 10 else ""
        raise DatasetError(
            f"{count_noun(len(twice), 'video')} below {tree.root} with more than one file; "
            f"remove or move away all but one of each, or give a narrower root\n  {shown}{more}",
            reason="video_id",
        )
    paths = {key: tree.path(found[key][0]) if key in found else "" for key in wanted}
    return paths, tuple(sorted(unlisted))


def nothing_found(tree: Tree, what: str, example: str, hint: str = "") -> DatasetError:
    """The error where not one video of a data set lies below its root."""
    archives = [n for n in tree.files if n.lower().endswith((".zip", ".rar", ".tar", ".tar.gz"))]
    if archives:
        way_out = f"unpack {tree.path(archives[0])} first{f' ({hint})' if hint else ''}"
    else:
        way_out = f"give the folder that holds the unpacked videos of {what} as --root"
    return DatasetError(f"no {what} video such as {example} below {tree.root}; {way_out}")
