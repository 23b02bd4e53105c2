"""Files of a tree and video names of official lists -> the file of each video."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable

from flowpipe.datasets.file_kinds import is_video
from flowpipe.datasets.ids import escape, without_extension
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.words import count_noun


def stem(name: str) -> str:
    """Return the file name without folder and extension.

    Parameters
    ----------
    name : str
        Path.

    Returns
    -------
    str
        The name.
    """
    return without_extension(posixpath.basename(name))


def match(
    tree: FileTree,
    keys: Iterable[str],
    key_of: Callable[[str], str] = stem,
    *,
    any_case: bool = False,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the videos of official lists in a tree, in any folder.

    Parameters
    ----------
    tree : FileTree
        Files to search.
    keys : iterable of str
        Names of the videos in the lists.
    key_of : callable
        Function that returns the key of a file name.
    any_case : bool
        If a key has no file, accept a file whose key differs only in upper and lower case.

    Returns
    -------
    paths : dict
        Path by key, in the order of `keys`; empty if there is no file.
    unlisted : tuple of str
        Paths of the videos that no key names, sorted.

    Raises
    ------
    DatasetError
        If keys have several files; the message names them.
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


def nothing_found_error(tree: FileTree, what: str, example: str, hint: str = "") -> DatasetError:
    """Return the error for a root without any video of the data set.

    Parameters
    ----------
    tree : FileTree
        Files of the root.
    what : str
        Wanted videos, for the message.
    example : str
        Name of such a video.
    hint : str
        How to unpack an archive.

    Returns
    -------
    DatasetError
        The error.
    """
    archives = [n for n in tree.files if n.lower().endswith((".zip", ".rar", ".tar", ".tar.gz"))]
    if archives:
        way_out = f"unpack {tree.path(archives[0])} first{f' ({hint})' if hint else ''}"
    else:
        way_out = f"give the folder that holds the unpacked videos of {what} as --root"
    return DatasetError(f"no {what} video such as {example} below {tree.root}; {way_out}")
