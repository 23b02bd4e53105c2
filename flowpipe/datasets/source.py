"""Options that name videos -> plain values that a store records -> a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from flowpipe.datasets import DATASETS, Dataset, DatasetRow
from flowpipe.datasets.file_kinds import decodes, is_container, is_text, is_video, read_head
from flowpipe.datasets.splits_of_own import split_by_lists, split_by_share
from flowpipe.errors import UsageError
from flowpipe.remote import PathOrUrl, Url, parse_path_or_url
from flowpipe.splits import kind_of_split
from flowpipe.words import unknown_name

Counting = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows how far work of a given name is: its function takes what is done and the total."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def source_of(
    dataset: str | None,
    root: PathOrUrl | None,
    videos: PathOrUrl | None,
    annotations: PathOrUrl | None,
    *,
    class_names: PathOrUrl | None,
    only: str | None,
    out: Path,
    lists: Sequence[tuple[str, PathOrUrl]] = (),
    val_fraction: float | None = None,
) -> dict[str, Any]:
    """Return the data set options as plain values that a store's JSON can hold.

    Parameters
    ----------
    dataset : str or None
        Name of a data set; None for the user's own videos.
    root : Path, Url or None
        Folder of the download, or the folder at which paths of a list start.
    videos : Path, Url or None
        Folder, list or file of the user's own videos.
    annotations : Path, Url or None
        Official lists of the data set.
    class_names : Path, Url or None
        File with the class names of the user's own videos.
    only : str or None
        Subsets or splits, with commas between them.
    out : Path
        Folder of the store.
    lists : sequence of (str, Path or Url)
        List files of the user's own videos, by split.
    val_fraction : float, optional
        Share of the user's own videos that is kept for validation.

    Returns
    -------
    dict
        Values for `load_dataset`.

    Raises
    ------
    UsageError
        If the options contradict each other, or a path does not exist.
    """
    if (dataset is None) == (videos is None):
        raise UsageError("give either --dataset NAME with --root DIR, or --videos FOLDER|LIST")
    if videos is not None:
        if not videos.exists():
            raise UsageError(f"--videos {videos}: no such folder, list file or video")
        source = {"dataset": _kind(videos), "root": _make_absolute(videos)}
        if root is not None:
            if "base" not in _row(source["dataset"]).options:
                raise UsageError(
                    "--root belongs to --dataset and to lists of --videos; "
                    f"{videos} is a {source['dataset']}, so leave --root out"
                )
            if not root.is_dir():
                raise UsageError(f"--root {root}: no such folder")
            source["base"] = _make_absolute(root)
        if not _row(source["dataset"]).is_file:
            _refuse_mixing("--videos", videos, out)
    else:
        assert dataset is not None
        where = _root(_row(dataset), root, out)
        _refuse_mixing("--root", where, out)
        source = {"dataset": dataset, "root": _make_absolute(where)}
    files = {"annotations": annotations, "class_names": class_names}
    for name, path in files.items():
        if path is None:
            continue
        option = f"--{name.replace('_', '-')}"
        takers = [row.name for row in DATASETS.values() if name in row.options]
        if source["dataset"] not in takers:
            raise UsageError(f"{option} belongs to the data sets {', '.join(takers)}")
        if not path.exists():
            raise UsageError(f"{option} {path}: no such file or folder")
        source[name] = _make_absolute(path)
    source |= _division(source["dataset"], lists, val_fraction)
    parts = [part.strip() for part in (only or "").split(",") if part.strip()]
    if only is not None and not parts:
        raise UsageError(
            "--only is empty; name subsets or splits, such as validation or train1,test1"
        )
    return {**source, "only": parts} if parts else source


def load_dataset(source: dict[str, Any], counting: Counting | None = None) -> Dataset:
    """Load the data set that the options in a store's `source` describe.

    Parameters
    ----------
    source : dict
        From `source_of`.
    counting : callable, optional
        Context manager that shows how far a generated data set is.

    Returns
    -------
    Dataset
        The data set, with its videos listed.
    """
    row, root = _row(source["dataset"]), parse_path_or_url(source["root"])
    if row.made and counting is not None:
        with counting(f"making the clips of {row.name}") as progress:
            dataset = row.load(root, progress=progress)
    else:
        options = {name: parse_path_or_url(source[name]) for name in row.options if name in source}
        dataset = row.load(root, **options)
    if "lists" in source:
        lists = [(split, parse_path_or_url(file)) for split, file in source["lists"]]
        base = source.get("base") or (root.parent if row.is_file else root)
        names = source.get("class_names")
        dataset = split_by_lists(
            dataset, lists, parse_path_or_url(base), parse_path_or_url(names) if names else None
        )
    if "val_fraction" in source:
        dataset = split_by_share(dataset, source["val_fraction"])
    return dataset.select(source["only"]) if "only" in source else dataset


def _division(
    dataset: str, lists: Sequence[tuple[str, PathOrUrl]], val_fraction: float | None
) -> dict[str, Any]:
    """Return how the user's own videos are divided into splits, as plain values for JSON."""
    if not lists and val_fraction is None:
        return {}
    option = "--list" if lists else "--val-fraction"
    row = _row(dataset)
    if not row.own:
        raise UsageError(
            f"{option} divides videos of your own, a folder or a list of --videos; "
            f"this is {row.name}: {row.summary}"
        )
    if lists and val_fraction is not None:
        raise UsageError("--list and --val-fraction exclude each other")
    if val_fraction is not None:
        return {"val_fraction": val_fraction}
    for split, path in lists:
        if kind_of_split(split) is None:
            wrong = unknown_name("split", split, ("train", "val", "test"))
            raise UsageError(
                f"--list {f'{split}=' if split else ''}{path}: "
                f"{wrong if split else 'the split is missing'}; wanted SPLIT=FILE with the split "
                "train, val or test, and a number where there are several, such as train2=FILE"
            )
        if not path.exists():
            raise UsageError(f"--list {split}={path}: no such file")
    return {"lists": [[split, _make_absolute(path)] for split, path in lists]}


def _kind(videos: PathOrUrl) -> str:
    """Return ``folder``, ``video`` or ``list``: the kind of data set at the path of ``--videos``.

    Raises
    ------
    UsageError
        If the path is a device, a pipe or a socket, or a binary file that is no video.
    """
    if videos.is_dir():
        return "folder"
    if is_video(str(videos)) and (isinstance(videos, Url) or videos.is_file()):
        return "video"
    if isinstance(videos, Url):
        return "list"
    if not videos.is_file():
        raise UsageError(
            f"--videos {videos} is a device, pipe or socket; give a folder, a list file or a video"
        )
    head = read_head(videos)
    if head is None or is_text(head) or head.startswith(_UTF16):  # the list's reader says the rest
        return "list"
    if is_container(head) or decodes(videos):
        return "video"
    raise UsageError(
        f"--videos {videos} is a binary file, neither a list in UTF-8 text nor a video that FFmpeg "
        "decodes; give a folder, a list file or a video"
    )


def _refuse_mixing(option: str, videos: PathOrUrl, out: Path) -> None:
    """Raise UsageError if the store and the folder of the videos contain one another."""
    if isinstance(videos, Url):
        return
    there, store = videos.resolve(), out.resolve()
    if there == store:
        how = f"is the folder of {option} too"
    elif there in store.parents:
        how = f"lies in {option} {videos}"
    elif store in there.parents:
        how = f"contains {option} {videos}"
    else:
        return
    raise UsageError(
        f"--out {out} {how}, which would mix the store with its sources; choose a folder beside it"
    )


def _row(name: str) -> DatasetRow:
    if name not in DATASETS:
        raise UsageError(unknown_name("--dataset", name, DATASETS))
    return DATASETS[name]


def _make_absolute(where: PathOrUrl) -> str:
    """Return the absolute path, or the URL unchanged."""
    return where if isinstance(where, Url) else str(where.resolve())


def _root(row: DatasetRow, root: PathOrUrl | None, out: Path) -> PathOrUrl:
    """Return the folder of a data set's download; a generated data set lies beside the store."""
    if root is None:
        if not row.made:
            raise UsageError(f"--dataset {row.name} needs --root, the folder of its download")
        return out.parent / f"{out.name}-videos"
    if not row.made and not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    return root
