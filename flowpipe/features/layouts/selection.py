"""File of features + choice of streams and videos -> arrays, instances and names for layouts.

Localisation codes count time from the first frame of a video, and take row k of a video for the
window that begins k strides later. Instances are therefore given relative to the first frame.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import translate_write_errors, write_atomic
from flowpipe.errors import UsageError
from flowpipe.features.file_format import FEATURES, SCORES, FeatureVideo
from flowpipe.features.layouts.export_record import begin_export
from flowpipe.features.reader import FeatureFile
from flowpipe.splits import kind_of_split
from flowpipe.types import Interval

Values = Literal["features", "scores", "probabilities"]
"""Contents of a row: features; logits; their softmax, or sigmoid of networks of ``bce``."""
_FRAME_S = 1 / 30
"""Duration of a video of a single frame, seconds: the codes divide by durations."""
_SUBSETS = {"train": "training", "val": "validation", "test": "testing"}


@dataclass(frozen=True)
class Selection:
    """Streams and videos of a file of features."""

    file: FeatureFile
    streams: tuple[str, ...]
    """Streams whose columns are joined, in this order."""
    video_ids: tuple[str, ...]
    values: Values
    layout: str
    """Key of `FEATURE_LAYOUTS`."""

    def begin(self, out: Path) -> None:
        """Begin an export into a folder, which may hold an earlier part of the same export only.

        Parameters
        ----------
        out : Path
            Folder of the export.

        Raises
        ------
        UsageError
            If the folder has another export of features, or it cannot be written.
        """
        facts = [self.file.facts, *(dict(stream.facts) for stream in self.file.streams.values())]
        settings = {
            "layout": self.layout,
            "values": self.values,
            "streams": list(self.streams),
            "videos": list(self.video_ids),
            "features": facts,
        }
        begin_export(out, settings)

    @property
    def columns(self) -> int:
        """Number of columns of a row of all streams."""
        kind = FEATURES.name if self.values == FEATURES.name else SCORES.name
        return sum(self.file.width(stream, kind) for stream in self.streams)

    def video(self, video_id: str) -> FeatureVideo:
        """Return a video of the file.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        FeatureVideo
            The video.
        """
        return self.file.videos[video_id]

    def duration_s(self, video_id: str) -> float:
        """Return the duration of a video.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        float
            Seconds, positive: a single frame, whose duration is unknown, counts as 1/30 s.
        """
        video = self.video(video_id)
        return video.end_s - video.start_s or _FRAME_S

    def rows_of(self, stream: str, video_id: str) -> NDArray[np.float32]:
        """Return the rows of one stream of a video; zeros if the stream has left it out.

        Parameters
        ----------
        stream, video_id : str
            Name of the stream; id of the video.

        Returns
        -------
        float32 (R, D)
            The rows.

        Raises
        ------
        UsageError
            If a value is not finite.
        """
        of_features = self.values == FEATURES.name
        rows = (self.file.features if of_features else self.file.scores)(stream, video_id)
        if video_id in self.file.streams[stream].left_out:
            rows = np.zeros_like(rows)
        if not np.isfinite(rows).all():
            what = FEATURES.name if of_features else SCORES.name
            raise UsageError(
                f"{self.file.path}: {what} of {stream} of video {video_id} are not finite; compute "
                "the file again"
            )
        if self.values != "probabilities":
            return rows
        return _probabilities(rows, self.file.streams[stream].by_class)

    def rows(self, video_id: str) -> NDArray[np.float32]:
        """Return the rows of a video, the columns of its streams side by side.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        float32 (R, D)
            The rows.
        """
        return np.hstack([self.rows_of(stream, video_id) for stream in self.streams])

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of the data set."""
        return tuple(self.file.facts["class_names"])

    @cached_property
    def has_instances(self) -> bool:
        """True if a video of the file has a labelled instance."""
        return any(video.record.segments for video in self.file.videos.values())

    def instances(self, video_id: str) -> list[Interval]:
        """Return the labelled instances of a video, seconds after its first frame.

        If no video of the file has instances, a video is one instance of each of its labels.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        list of Interval
            The instances.
        """
        video = self.video(video_id)
        if not self.has_instances:
            return [Interval(k, 0.0, self.duration_s(video_id)) for k in video.record.labels]
        first = video.start_s
        return [
            Interval(one.label, max(0.0, one.start_s - first), one.end_s - first)
            for one in video.record.segments
        ]

    @cached_property
    def labels(self) -> list[int]:
        """Class indices that an instance of a chosen video has, sorted."""
        return sorted({one.label for key in self.video_ids for one in self.instances(key)})

    def subset(self, video_id: str) -> str:
        """Return the subset of a video: the official one, or that of its first split.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        str
            Its name; empty if there is none.
        """
        record = self.video(video_id).record
        kinds = [kind for kind in map(kind_of_split, record.splits) if kind]
        if record.subset or not kinds:
            return record.subset
        return _SUBSETS[min(kinds, key=lambda kind: kind[1])[0]]

    def stride_frames(self) -> tuple[int, float, float | None]:
        """Return stride and window in frames, and the frame rate that they are counted at.

        A stride in seconds is expressed as a whole number of frames of about 30 frames per second.

        Returns
        -------
        stride : int
            Stride, frames.
        window : float
            Window, frames.
        fps : float or None
            Rate of these frames; None if they are frames of the video.

        Raises
        ------
        UsageError
            If only one of them is in seconds.
        """
        window, stride = (self.file.facts[name] for name in ("window", "stride"))
        if window["unit"] != stride["unit"]:
            raise UsageError(
                f"{self.file.path} has a window in {window['unit']} and a stride in "
                f"{stride['unit']}: this layout wants both in frames, or both in seconds"
            )
        if stride["unit"] == "frames":
            return stride["value"], window["value"], None
        count = max(1, round(30 * stride["value"]))
        return count, window["value"] / stride["value"] * count, count / stride["value"]

    def check_frame_times(self, advice: str) -> None:
        """Raise UsageError if frame n of a video is not shown at n / fps, as its rate varies.

        Layouts without times take a row for the time n / fps of its first frame n.

        Parameters
        ----------
        advice : str
            What to do, for the message.

        Raises
        ------
        UsageError
            If a row is wrong by more than half a stride and by more than a frame.
        """
        for video_id in self.video_ids:
            video, windows = self.video(video_id), self.file.windows(video_id)
            if len(windows) < 2:
                continue
            taken_s, start_s = windows.start_frame / video.fps, windows.start_s - video.start_s
            wrong_s = np.abs(taken_s - start_s)
            most_s = max(1 / video.fps, 0.5 * start_s[-1] / (len(windows) - 1))
            k = int(wrong_s.argmax())
            if wrong_s[k] > most_s:
                raise UsageError(
                    f"{self.file.path}: the frame rate of {video_id} varies: row {k} begins at "
                    f"{start_s[k]:.2f} s, and this layout takes it for {taken_s[k]:.2f} s; {advice}"
                )


def file_names(paths: Sequence[str], video_ids: Sequence[str]) -> list[str]:
    """Return the names of the videos' files without suffix; their ids where two would be equal.

    Parameters
    ----------
    paths : sequence of str
        Path of the file of each video.
    video_ids : sequence of str
        Id of each video.

    Returns
    -------
    list of str
        A name for each video.
    """
    names = [Path(path).stem for path in paths]
    twice = {name for name, count in Counter(names).items() if count > 1 or not name}
    return [
        video_id if name in twice else name for name, video_id in zip(names, video_ids, strict=True)
    ]


def write_array(path: Path, values: NDArray[np.generic]) -> None:
    """Write an array as .npy, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    values : array (...)
        Its content, of any shape.
    """
    content = io.BytesIO()
    np.save(content, values)
    make_folder(path.parent)
    write_atomic(path, content.getvalue(), "features")


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it.

    Parameters
    ----------
    folder : Path
        The folder, which may exist.
    """
    with translate_write_errors(folder, "folder"):
        folder.mkdir(parents=True, exist_ok=True)


def _probabilities(scores: NDArray[np.float32], by_class: bool) -> NDArray[np.float32]:
    if by_class:
        return (1 / (1 + np.exp(-scores.astype(np.float64)))).astype(np.float32)
    powers = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    made: NDArray[np.float32] = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return made
