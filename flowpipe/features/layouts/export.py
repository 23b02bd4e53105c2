"""File of features + layout -> the files of another tool: FEATURE_LAYOUTS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from flowpipe.errors import UsageError
from flowpipe.features.layouts.actionformer import write_actionformer
from flowpipe.features.layouts.bmn import write_bmn
from flowpipe.features.layouts.gtad import write_gtad
from flowpipe.features.layouts.selection import Selection, Values
from flowpipe.features.layouts.video_features import write_video_features
from flowpipe.features.reader import FeatureFile, open_features
from flowpipe.words import unknown_name

VALUES: tuple[Values, ...] = get_args(Values)
"""Possible contents of a row."""


@dataclass(frozen=True)
class FeatureLayout:
    """A row of `FEATURE_LAYOUTS`."""

    write: Callable[[Selection, Path], list[Path]]
    """Function that writes the files and returns the lists among them."""
    values: Values
    """Default contents of a row."""


FEATURE_LAYOUTS = {
    "actionformer": FeatureLayout(write_actionformer, "features"),
    "bmn": FeatureLayout(write_bmn, "scores"),
    "gtad": FeatureLayout(write_gtad, "features"),
    "video_features": FeatureLayout(write_video_features, "features"),
}
"""Layouts of features by name."""


@dataclass(frozen=True, kw_only=True)
class FeatureExportJob:
    """File of features, folder and options of an export."""

    path: Path
    """File of features."""
    out: Path
    """Folder to write."""
    layout: str
    """Key of `FEATURE_LAYOUTS`."""
    streams: tuple[str, ...] = ()
    """Streams, whose columns are joined in this order; all in the order of the file if empty."""
    only: tuple[str, ...] = ()
    """Subsets or splits; all videos if empty."""
    values: Values | None = None
    """Contents of a row; None for the default of the layout."""


@dataclass(frozen=True, kw_only=True)
class ExportedRows:
    """Result of an export of features."""

    videos: int
    """Number of videos."""
    lists: list[Path]
    """Files with annotations, lists and settings."""
    zeros: Mapping[str, int]
    """Number of videos whose rows of a stream are zeros, by stream: the stream has left them out.
    """


def export_features(job: FeatureExportJob) -> ExportedRows:
    """Write the files of another tool.

    Parameters
    ----------
    job : FeatureExportJob
        What to write.

    Returns
    -------
    ExportedRows
        What was written.

    Raises
    ------
    UsageError
        If the file lacks a stream, subset or split, or does not suit the layout, or the folder has
        another export of features.
    FormatError
        If the file is not a file of features.
    DiskFullError
        If the disk is full.
    """
    layout = FEATURE_LAYOUTS[job.layout]
    with open_features(job.path) as file:
        for name in job.streams:
            if name not in file.streams:
                raise UsageError(f"{job.path}: {unknown_name('stream', name, list(file.streams))}")
        streams = job.streams or tuple(file.streams)
        videos = tuple(_choose_videos(file, job.only))
        silent = {name: file.streams[name].left_out.keys() & videos for name in streams}
        chosen = Selection(file, streams, videos, job.values or layout.values, job.layout)
        lists = layout.write(chosen, job.out)
    zeros = {name: len(keys) for name, keys in silent.items() if keys}
    return ExportedRows(videos=len(videos), lists=lists, zeros=zeros)


def _choose_videos(file: FeatureFile, only: Sequence[str]) -> list[str]:
    names = {
        video_id: {name for name in (video.record.subset, *video.record.splits) if name}
        for video_id, video in file.videos.items()
    }
    known = sorted(set().union(*names.values()))
    for name in only:
        if name not in known:
            raise UsageError(f"{file.path}: {unknown_name('subset or split', name, known)}")
    return [key for key, own in names.items() if not only or own.intersection(only)]
