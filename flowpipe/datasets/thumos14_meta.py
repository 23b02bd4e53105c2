"""The .mat files of THUMOS14 -> the actions of each video, none for background."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError

FILES = {"validation": "validation_set.mat", "test": "test_set_meta.mat"}
"""File name of each subset in the official archives; the evaluation kit has test_set_final.mat."""

_PATTERN = r"(validation|test)_set(_meta|_final)?\.mat"
_TABLES = ("validation_videos", "test_videos")


def actions(tree: FileTree, classes: int, official: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Read labels from all official .mat files in a tree.

    Parameters
    ----------
    tree : FileTree
        Files to search.
    classes : int
        Number of classes; the files number them from 1.
    official : collection of str
        Ids of all official videos.

    Returns
    -------
    dict
        Video id -> primary and secondary actions as labels from 0, sorted; empty for background.

    Raises
    ------
    DatasetError
        If a file differs from the official format, or two files disagree.
    """
    found: dict[str, tuple[int, ...]] = {}
    source: dict[str, str] = {}
    for name in tree.files_named(_PATTERN):
        for row in _rows(tree, name):
            try:
                video_id, labels = str(row["video_name"]), _labels(row)
                if video_id not in official:
                    raise ValueError(f"video {video_id}, which is no official one")
                if labels and not 0 <= min(labels) <= max(labels) < classes:
                    raise ValueError(f"action {labels} of {classes}")
            except (KeyError, ValueError, TypeError) as error:
                raise _unlike(tree, name, error) from error
            if found.setdefault(video_id, labels) != labels:
                raise DatasetError(
                    f"{source[video_id]} and {tree.path(name)} differ on {video_id}; remove or "
                    "move away one of them"
                )
            source.setdefault(video_id, tree.path(name))
    return found


def _rows(tree: FileTree, name: str) -> list[dict[str, Any]]:
    from scipy.io import loadmat  # takes half a second, and only this data set needs it

    try:
        with tree.open(name) as file:
            content = loadmat(file, simplify_cells=True)
        return list(content[next(table for table in _TABLES if table in content)])
    except Exception as error:  # scipy raises many types
        raise _unlike(tree, name, error) from error


def _labels(row: dict[str, Any]) -> tuple[int, ...]:
    if row.get("background_video", "NO") == "YES":
        return ()
    secondary = np.atleast_1d(row["secondary_actions_indices"])
    return tuple(sorted({int(index) - 1 for index in (row["primary_action_index"], *secondary)}))


def _unlike(tree: FileTree, name: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{tree.path(name)} differs from the official file: wanted a table {' or '.join(_TABLES)} "
        f"with video_name, primary_action_index and secondary_actions_indices, got {error!r}; "
        "fetch it again or move it away"
    )
