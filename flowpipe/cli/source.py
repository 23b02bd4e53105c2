"""Options that name videos -> a source, plain values that a store remembers -> a Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowpipe.cli.screen import counting
from flowpipe.datasets import DATASETS, Dataset, DatasetRow
from flowpipe.errors import UsageError
from flowpipe.remote import Place, Url, place


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
        if root is not None:
            raise UsageError("--root belongs to --dataset; with --videos name the folder itself")
        if not videos.exists():
            raise UsageError(f"--videos {videos}: no such folder or list file")
        source = {
            "dataset": "folder" if videos.is_dir() else "list",
            "root": _whole(videos),
        }
    else:
        assert dataset is not None
        source = {"dataset": dataset, "root": _whole(_root(_row(dataset), root, out))}
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


def _row(name: str) -> DatasetRow:
    if name not in DATASETS:
        raise UsageError(f"--dataset {name} is unknown; known: {', '.join(DATASETS)}")
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
