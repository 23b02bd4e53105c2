"""Options that name videos -> a source, plain values that a store remembers -> a Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowpipe.cli.screen import counting
from flowpipe.datasets import DATASETS, Dataset, DatasetRow
from flowpipe.datasets.kinds import decodes, is_container, is_text, is_video, read_head
from flowpipe.errors import UsageError
from flowpipe.remote import Place, Url, place
from flowpipe.words import did_you_mean

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def source_of(
    dataset: str | None,
    root: Place | None,
    videos: Place | None,
    annotations: Place | None,
    class_names: Place | None,
    only: str | None,
    out: Path,
) -> dict[str, Any]:
    """What the options name, as values that JSON can hold.

    Raises
    ------
    UsageError
        If they contradict each other, or a path is not there.
    """
    if (dataset is None) == (videos is None):
        raise UsageError("give either --dataset NAME with --root DIR, or --videos FOLDER|LIST")
    if videos is not None:
        if not videos.exists():
            raise UsageError(f"--videos {videos}: no such folder, list file or video")
        source = {"dataset": _kind(videos), "root": _whole(videos)}
        if root is not None:
            if source["dataset"] != "list":
                raise UsageError(
                    "--root belongs to --dataset and to lists of --videos; "
                    f"{videos} is a {source['dataset']}, so leave --root out"
                )
            if not root.is_dir():
                raise UsageError(f"--root {root}: no such folder")
            source["base"] = _whole(root)
        if source["dataset"] == "folder":
            _refuse_mixing("--videos", videos, out)
    else:
        assert dataset is not None
        where = _root(_row(dataset), root, out)
        _refuse_mixing("--root", where, out)
        source = {"dataset": dataset, "root": _whole(where)}
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
        source[name] = _whole(path)
    parts = [part.strip() for part in (only or "").split(",") if part.strip()]
    if only is not None and not parts:
        raise UsageError("--only is empty; name subsets or splits, as validation or train1,test1")
    return {**source, "only": parts} if parts else source


def load_dataset(source: dict[str, Any]) -> Dataset:
    """The data set that a store's `source` names."""
    row, root = _row(source["dataset"]), place(source["root"])
    if row.made:
        with counting(f"making the clips of {row.name}") as progress:
            dataset = row.load(root, progress=progress)
    else:
        options = {name: place(source[name]) for name in row.options if name in source}
        dataset = row.load(root, **options)
    return dataset.only(source["only"]) if "only" in source else dataset


def _kind(videos: Place) -> str:
    """Name of the data set that ``--videos`` gives: a folder, one video or a list.

    Raises
    ------
    UsageError
        If it is a device, a pipe or a socket, or binary and no video.
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


def _refuse_mixing(option: str, videos: Place, out: Path) -> None:
    """Raise UsageError if the store and the folder of the videos lie in each other."""
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
        raise UsageError(f"--dataset {name} is unknown; {did_you_mean(name, DATASETS)}")
    return DATASETS[name]


def _whole(where: Place) -> str:
    """A path as it is from everywhere; a URL is that already."""
    return where if isinstance(where, Url) else str(where.resolve())


def _root(row: DatasetRow, root: Place | None, out: Path) -> Place:
    """The folder of a data set's download; one that is made lies beside the store."""
    if root is None:
        if not row.made:
            raise UsageError(f"--dataset {row.name} needs --root, the folder of its download")
        return out.parent / f"{out.name}-videos"
    if not row.made and not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    return root
