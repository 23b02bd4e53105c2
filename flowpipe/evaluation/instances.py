"""VideoRecords + split -> the instances that detections are compared with, by class and video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe import splits
from flowpipe.errors import UsageError
from flowpipe.evaluation.detections import Detections
from flowpipe.evaluation.ground_truth import ALL
from flowpipe.types import VideoRecord, read_interval
from flowpipe.words import count_noun, unknown_name

FloatArray = NDArray[np.float64]
_NONE = np.empty((0, 2))


@dataclass(frozen=True)
class ClassDetections:
    """Detections of one class."""

    intervals: FloatArray
    """Start and end, seconds, (N, 2)."""
    scores: FloatArray
    """Confidences, (N,)."""
    rows: Mapping[str, NDArray[np.intp]]
    """Rows of each video that has detections, in the order of the file."""


@dataclass(frozen=True)
class ClassInstances:
    """Ground-truth instances of one class."""

    count: int
    """Number of instances in all videos."""
    by_video: Mapping[str, FloatArray]
    """Start and end of the instances of each video, seconds, (n, 2)."""
    ambiguous_by_video: Mapping[str, FloatArray]
    """Start and end of the ambiguous intervals of each video, seconds, (n, 2)."""

    def instances(self, video_id: str) -> FloatArray:
        """Return the instances of a video.

        Parameters
        ----------
        video_id : str
            Id of any video.

        Returns
        -------
        float64 (n, 2)
            Start and end of each, seconds.
        """
        return self.by_video.get(video_id, _NONE)

    def ambiguous(self, video_id: str) -> FloatArray:
        """Return the ambiguous intervals of a video.

        Parameters
        ----------
        video_id : str
            Id of any video.

        Returns
        -------
        float64 (n, 2)
            Start and end of each, seconds.
        """
        return self.ambiguous_by_video.get(video_id, _NONE)


@dataclass(frozen=True)
class InstanceGroundTruth:
    """Instances of the videos that one split tests on."""

    split: str
    video_ids: frozenset[str]
    """Videos of the split, those without instances included."""
    classes: Mapping[int, ClassInstances]
    """Ground truth of each class that has instances, by label in increasing order."""


def test_splits(records: Sequence[VideoRecord]) -> tuple[str, ...]:
    """Return the test splits whose videos have instances.

    Parameters
    ----------
    records : sequence of VideoRecord
        Videos of the data set.

    Returns
    -------
    tuple of str
        Sorted names; ``all`` if there are no splits.
    """
    annotated = {name for record in records if record.segments for name in record.splits}
    return splits.test_splits(annotated) or (ALL,)


def select_instances(records: Sequence[VideoRecord], split: str) -> InstanceGroundTruth:
    """Return the instances of the videos of one split.

    Parameters
    ----------
    records : sequence of VideoRecord
        Videos of the data set.
    split : str
        Name of a split, or ``all``.

    Returns
    -------
    InstanceGroundTruth
        Instances by class and video, each in the order of the record.

    Raises
    ------
    UsageError
        If the split has no video, or none with an instance, or an instance is not 0 <= start <=
        end.
    """
    chosen = [record for record in records if split == ALL or split in record.splits]
    found: dict[int, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for record in chosen:
        for one in record.segments:
            try:
                interval = read_interval((one.start_s, one.end_s))
            except ValueError as error:
                raise UsageError(
                    f"instance of video {record.video_id}: {error}; correct the annotations"
                ) from error
            found[one.label][record.video_id].append(interval)
    if not found:
        known = [*splits.split_names(record for record in records if record.segments), ALL]
        if not chosen:
            raise UsageError(unknown_name("split", split, known))
        raise UsageError(
            f"split {split} has {count_noun(len(chosen), 'video')} and no instance; splits with "
            f"instances: {', '.join(known)}"
        )
    ambiguous = {one.video_id: np.array(one.ambiguous) for one in chosen if one.ambiguous}
    classes = {
        label: ClassInstances(
            sum(map(len, by_video.values())),
            {video_id: np.array(pairs, np.float64) for video_id, pairs in by_video.items()},
            ambiguous,
        )
        for label, by_video in sorted(found.items())
    }
    return InstanceGroundTruth(split, frozenset(one.video_id for one in chosen), classes)


def detections_of_class(found: Detections, label: int) -> ClassDetections:
    """Return the detections of one class.

    Parameters
    ----------
    found : Detections
        Detections of all classes.
    label : int
        Index of the class.

    Returns
    -------
    ClassDetections
        Detections in the order of `found`.
    """
    rows = np.flatnonzero(found.labels == label)
    by_video: dict[str, list[int]] = defaultdict(list)
    for k, row in enumerate(rows.tolist()):
        by_video[found.video_ids[row]].append(k)
    return ClassDetections(
        found.intervals[rows],
        found.scores[rows],
        {video_id: np.array(own, np.intp) for video_id, own in by_video.items()},
    )
