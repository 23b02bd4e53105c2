"""A folder tree of videos -> VideoRecords; the folder of a video can be its class."""

from __future__ import annotations

import posixpath
from typing import Literal

from flowpipe.datasets.classes import read_class_names
from flowpipe.datasets.dataset import Dataset, DatasetRow, SkippedFiles
from flowpipe.datasets.file_kinds import VideoFilter, extension, is_video
from flowpipe.datasets.ids import escape, id_of
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl, Url, parse_path_or_url
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun, list_some


def load(
    root: PathOrUrl,
    *,
    labels: Literal["folder", "none"] = "folder",
    class_names: PathOrUrl | None = None,
) -> Dataset:
    """Take every video below a folder, in sorted order.

    Videos are recognised by their extension. A local file of unknown extension is a video if FFmpeg
    decodes it. Other files are counted by kind in ``left_out`` and in the note.

    Parameters
    ----------
    root : Path or URL
        Folder to search. Hidden files and folders are skipped; links are followed, and each folder
        is read once.
    labels : {"folder", "none"}
        ``folder``: the name of a video's folder is its class; videos directly in `root` have none.
        ``none``: videos have no labels.
    class_names : Path or URL, optional
        File with the names of all classes in the order of their labels. By default the folders with
        videos are the classes, sorted, so that another copy may have other labels.

    Returns
    -------
    Dataset
        Videos of the folder.

    Raises
    ------
    DatasetError
        If there is no video below `root`, or a folder is unreadable or not among the classes.
    """
    if labels not in ("folder", "none"):
        raise DatasetError(f"labels must be folder or none, got {labels!r}")
    tree = FileTree.read(parse_path_or_url(root))
    video_filter = VideoFilter(local=not isinstance(parse_path_or_url(root), Url))
    names: list[str] = []
    others: list[str] = []
    for name in tree.files:
        (names if video_filter.accepts(name, tree.path(name)) else others).append(name)
    left_out = SkippedFiles.by_kind(
        [(extension(name) or "without extension", name) for name in others]
        + [(_hidden_kind(name), name) for name in tree.hidden]
        + [("special (pipe, socket, device)", name) for name in tree.special]
    )
    if not names:
        there = SkippedFiles.words(left_out) or "no files at all"
        raise DatasetError(
            f"no videos below {tree.root}: found {there}; wanted at least one file that FFmpeg "
            "decodes as a video, such as .mp4, .avi, .mkv, .mov or .webm"
        )
    folders = [posixpath.basename(posixpath.dirname(name)) for name in names]
    if labels == "none":
        folders = [""] * len(names)
    found = sorted({escape(folder) for folder in folders if folder})
    classes = found if class_names is None else read_class_names(class_names)
    strange = sorted(set(found) - set(classes))
    if strange:
        raise DatasetError(
            f"{count_noun(len(strange), 'folder')} below {root} not among the "
            f"{count_noun(len(classes), 'class', 'classes')} in {class_names}: "
            f"{list_some(strange, 10)}"
        )
    index = {name: (label,) for label, name in enumerate(classes)}
    records = tuple(
        VideoRecord(id_of(name), tree.path(name), labels=index.get(escape(folder), ()))
        for name, folder in zip(names, folders, strict=True)
    )
    dangling = [name for name in tree.dangling if is_video(name)]
    notes = []
    if dangling:
        plural = count_noun(len(dangling), "link leads", "links lead")
        notes.append(f"{plural} nowhere, first: {escape(dangling[0])}.")
    if tree.repeated:
        notes.append(f"Not entered again: {list_some([*map(escape, tree.repeated)])}.")
    if left_out:
        total = sum(one.count for one in left_out)
        notes.append(f"{count_noun(total, 'file')} left out: {SkippedFiles.words(left_out)}.")
    absent = tuple(VideoRecord(id_of(name), "") for name in dangling)
    return Dataset(
        "folder", tuple(classes), records, absent=absent, note=" ".join(notes), left_out=left_out
    )


def _hidden_kind(name: str) -> str:
    return "hidden (folder)" if name.endswith("/") else f"hidden {extension(name) or '(file)'}"


ROW = DatasetRow(
    "folder", "videos in one folder per class", load, own=True, options=("class_names",)
)
