"""A store or official annotations -> the labels that `flowpipe evaluate` compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import FormatError, UsageError
from flowpipe.store import open_store
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun

_THUMOS14 = ("*_test.txt", "*_val.txt")
"""Names of the list files of THUMOS14."""


@dataclass(frozen=True)
class Labels:
    """Labels and instances of the videos of a data set."""

    source: str
    """Path of the store or of the annotations, for messages."""
    dataset: str
    """Name of the data set; empty for own videos."""
    class_names: tuple[str, ...]
    records: Sequence[VideoRecord]
    durations_s: Mapping[str, float]
    """Duration of each video for which it is known, seconds."""


def read_labels(path: Path) -> Labels:
    """Read the labels in a store, or in a file or folder of official annotations.

    Raises
    ------
    FormatError, DatasetError
        If it is none of these, or damaged.
    """
    if path.is_file() and path.suffix.lower() == ".json":
        return _read_annotations(path)
    if path.is_file():
        raise UsageError(
            f"{path}: wanted a store, the folder of THUMOS14's annotations, or a .json file in the "
            "form of ActivityNet's annotations"
        )
    try:
        store = open_store(path)
    except FormatError:
        if path.is_dir() and any(any(path.rglob(name)) for name in _THUMOS14):
            return _read_annotations(path)
        raise
    records = [video.record for video in store.videos.values()]
    durations_s = {
        record.video_id: float(store.videos[record.video_id].pts_s[-1])
        for record in records
        if record.segments
    }
    name = str(store.header.dataset.get("dataset", ""))
    return Labels(str(path), name, tuple(store.header.class_names), records, durations_s)


def _read_annotations(path: Path) -> Labels:
    from flowpipe.datasets.annotations import read_annotations

    dataset = read_annotations(path)
    return Labels(str(path), dataset.name, dataset.class_names, dataset.absent, dataset.durations_s)


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
