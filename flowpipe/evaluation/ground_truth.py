"""VideoRecords + split -> the ground truth that scores are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe import splits
from flowpipe.errors import UsageError
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun, unknown_name

ALL = "all"
"""Split of all videos, for data sets without splits."""


@dataclass(frozen=True)
class GroundTruth:
    """Labels of the videos that one split tests on."""

    split: str
    video_ids: tuple[str, ...]
    positives: NDArray[np.bool_]
    """True where a class is a label, (N, C). A video without labels is background: all False."""


def test_splits(records: Iterable[VideoRecord]) -> tuple[str, ...]:
    """Return the test splits whose videos have labels.

    Parameters
    ----------
    records : iterable of VideoRecord
        Videos of the data set.

    Returns
    -------
    tuple of str
        Names, sorted; ``all`` if there are no splits.
    """
    labelled = {name for record in records if record.labels for name in record.splits}
    return splits.test_splits(labelled) or (ALL,)


def select_ground_truth(records: Sequence[VideoRecord], split: str, classes: int) -> GroundTruth:
    """Return the labels of the videos of one split, sorted by id.

    Parameters
    ----------
    records : sequence of VideoRecord
        Videos of the data set.
    split : str
        Name of a split, or `ALL`.
    classes : int
        Number of classes, C.

    Returns
    -------
    GroundTruth
        Ids and labels.

    Raises
    ------
    UsageError
        If the split has no video, or none with a label.
    """
    chosen = sorted(
        (record for record in records if split == ALL or split in record.splits),
        key=lambda record: record.video_id,
    )
    positives = np.zeros((len(chosen), classes), bool)
    for row, record in enumerate(chosen):
        positives[row, list(record.labels)] = True
    if not positives.any():
        known = [*splits.split_names(records), ALL]
        if not chosen:
            raise UsageError(unknown_name("split", split, known))
        raise UsageError(
            f"split {split} has {count_noun(len(chosen), 'video')} and no label; known: "
            f"{', '.join(known)}"
        )
    return GroundTruth(split, tuple(record.video_id for record in chosen), positives)
