"""VideoRecords -> the labels that scores are compared with, by split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe import splits
from flowpipe.errors import UsageError
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun

ALL = "all"
"""Stands for every video where a data set has no splits."""


@dataclass(frozen=True)
class Truth:
    """Labels of the videos that one split tests on."""

    split: str
    video_ids: tuple[str, ...]
    positives: NDArray[np.bool_]
    """(N, C): whether a class is a label. A row of False is a video of none: background."""


def test_splits(records: Iterable[VideoRecord]) -> tuple[str, ...]:
    """Splits to test on, sorted, whose videos have labels; ``all`` where there are no splits."""
    labelled = {name for record in records if record.labels for name in record.splits}
    return splits.test_splits(labelled) or (ALL,)


def truth_of(records: Sequence[VideoRecord], split: str, classes: int) -> Truth:
    """Labels of the videos of one split, in the order of their ids.

    Raises
    ------
    UsageError
        If no video is of this split, or none of them has a label.
    """
    chosen = sorted(
        (record for record in records if split == ALL or split in record.splits),
        key=lambda record: record.video_id,
    )
    positives = np.zeros((len(chosen), classes), bool)
    for row, record in enumerate(chosen):
        positives[row, list(record.labels)] = True
    if not positives.any():
        known = splits.split_names(records)
        raise UsageError(
            f"split {split} has {count_noun(len(chosen), 'video')} and no label; splits with "
            f"videos: {', '.join(known) or 'none, so take --split all'}"
        )
    return Truth(split, tuple(record.video_id for record in chosen), positives)
