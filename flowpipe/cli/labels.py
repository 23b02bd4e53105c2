"""A store or official annotations -> the labels that `flowpipe evaluate` compares with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import UsageError
from flowpipe.store import open_store
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun


@dataclass(frozen=True)
class Labels:
    """Labels and instances of the videos of a data set."""

    source: str
    """Path of the store or of the annotations, for messages."""
    dataset: str
    """Name of the data set; empty for own videos."""
    class_names: tuple[str, ...]
    records: Sequence[VideoRecord]


def read_labels(path: Path) -> Labels:
    """Read the labels in a store, or in a file or folder of official annotations.

    A folder without list files of THUMOS14, and a file that is not JSON, are read as a store.

    Raises
    ------
    FormatError, DatasetError
        If it is none of these, or damaged.
    """
    json = path.is_file() and path.suffix.lower() == ".json"
    thumos14 = path.is_dir() and (any(path.glob("*_test.txt")) or any(path.glob("*_val.txt")))
    if json or thumos14:
        from flowpipe.datasets.annotations import read_annotations

        dataset = read_annotations(path)
        return Labels(str(path), dataset.name, dataset.class_names, dataset.absent)
    store = open_store(path)
    records = [video.record for video in store.videos.values()]
    name = str(store.header.dataset.get("dataset", ""))
    return Labels(str(path), name, tuple(store.header.class_names), records)


def files_by_split(
    files: Sequence[Path], chosen: Sequence[str], what: str
) -> list[tuple[str, Path]]:
    """Return each split and its file: the one file of all splits, or the file at its place.

    Parameters
    ----------
    files : sequence of Path
    chosen : sequence of str
        Names of the splits.
    what : str
        What the files hold, for the message.

    Raises
    ------
    UsageError
        If the numbers of files and splits differ and there is more than one file.
    """
    if len(files) not in (1, len(chosen)):
        raise UsageError(
            f"{count_noun(len(files), 'file')} of {what} for {count_noun(len(chosen), 'split')} "
            f"({', '.join(chosen)}); give one file for all splits, one per split, or select splits "
            "with --split"
        )
    return [(split, files[k % len(files)]) for k, split in enumerate(chosen)]
