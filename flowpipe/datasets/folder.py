"""A folder tree of videos -> VideoRecords; the folder that a video lies in can be its class."""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path
from typing import Literal

from flowpipe.datasets.classes import read_class_names
from flowpipe.datasets.dataset import Dataset
from flowpipe.datasets.ids import escape, id_of
from flowpipe.datasets.tree import VIDEO_EXTENSIONS, Tree, is_video
from flowpipe.errors import DatasetError
from flowpipe.remote import Place, place
from flowpipe.types import VideoRecord


def load(
    root: Place,
    *,
    labels: Literal["folder", "none"] = "folder",
    class_names: Place | None = None,
) -> Dataset:
    """Take every video below a folder, in sorted order.

    Parameters
    ----------
    root : Path or URL
        Hidden files and folders are skipped; links are followed, each folder is entered once.
    labels : {"folder", "none"}
        Whether the name of the folder that a video lies in is its class. Videos directly in `root`
        have none.
    class_names : Path or URL, optional
        File with the names of all classes in the order of their labels. Without it the folders that
        hold a video are the classes, in sorted order, so that another copy may have other labels.

    Raises
    ------
    DatasetError
        If there is no video below `root`, a folder cannot be read, or is none of the classes.
    """
    if labels not in ("folder", "none"):
        raise DatasetError(f"labels must be folder or none, got {labels!r}")
    tree = Tree.below(place(root))
    names = [name for name in tree.files if is_video(name)]
    if not names:
        raise DatasetError(_nothing(tree))
    folders = [posixpath.basename(posixpath.dirname(name)) for name in names]
    if labels == "none":
        folders = [""] * len(names)
    found = sorted({escape(folder) for folder in folders if folder})
    classes = found if class_names is None else read_class_names(class_names)
    strange = sorted(set(found) - set(classes))
    if strange:
        raise DatasetError(
            f"{len(strange)} folders below {root} are none of the {len(classes)} classes in "
            f"{class_names}: {', '.join(strange[:10])}"
        )
    index = {name: (label,) for label, name in enumerate(classes)}
    records = tuple(
        VideoRecord(id_of(name), tree.path(name), labels=index.get(escape(folder), ()))
        for name, folder in zip(names, folders, strict=True)
    )
    dangling = [name for name in tree.dangling if is_video(name)]
    notes = []
    if dangling:
        notes.append(f"{len(dangling)} links lead nowhere, first: {escape(dangling[0])}.")
    if tree.repeated:
        notes.append(f"Not entered again: {', '.join(map(escape, tree.repeated[:3]))}.")
    absent = tuple(VideoRecord(id_of(name), "") for name in dangling)
    return Dataset("folder", tuple(classes), records, absent, note=" ".join(notes))


def _nothing(tree: Tree) -> str:
    seen = Counter(Path(name).suffix.lower() or "no extension" for name in tree.files)
    there = ", ".join(f"{count} {kind}" for kind, count in seen.most_common(4)) or "no files at all"
    return (
        f"no videos below {tree.root}: found {there}; "
        f"wanted files ending in {' '.join(sorted(VIDEO_EXTENSIONS))}"
    )
