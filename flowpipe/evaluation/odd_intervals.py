"""Instances or detections -> sentences about the ones whose count may surprise.

The official codes count these intervals silently: the annotations of THUMOS14 have instances after
the end of their video, those of ActivityNet 1.3 have instances without length. No detection in the
video matches them, so they lower the recall.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from flowpipe.evaluation.detections import Detections
from flowpipe.evaluation.instances import InstanceGroundTruth
from flowpipe.words import agree_verb, count_noun, list_some

Row = tuple[str, int, float, float]
"""Video, class, start and end."""


def rows_of_instances(truth: InstanceGroundTruth) -> Iterator[Row]:
    """Yield the instances of a split.

    Parameters
    ----------
    truth : InstanceGroundTruth
        Instances of the split.

    Yields
    ------
    tuple of (str, int, float, float)
        Video, class, start and end in seconds.
    """
    for label, instances in truth.classes.items():
        for video_id, intervals in instances.by_video.items():
            for start_s, end_s in intervals.tolist():
                yield video_id, label, start_s, end_s


def rows_of_detections(found: Detections) -> Iterator[Row]:
    """Yield the detections of a file.

    Parameters
    ----------
    found : Detections
        Detections.

    Yields
    ------
    tuple of (str, int, float, float)
        Video, class, start and end in seconds.
    """
    for video_id, label, (start_s, end_s) in zip(
        found.video_ids, found.labels.tolist(), found.intervals.tolist(), strict=True
    ):
        yield video_id, label, start_s, end_s


def describe_odd(rows: Iterable[Row], noun: str, durations_s: Mapping[str, float]) -> list[str]:
    """Describe intervals without length, after the end of their video, and repeated ones.

    Parameters
    ----------
    rows : iterable of (str, int, float, float)
        Video, class, start and end in seconds.
    noun : str
        What the rows are, such as ``instance``.
    durations_s : mapping
        Duration of each video for which it is known, seconds.

    Returns
    -------
    list of str
        A sentence for each kind that occurs.
    """
    kinds: dict[str, list[str]] = {
        "without length": [],
        "after the end of the video": [],
        "with the class, video and times of another": [],
    }
    no_length, late, repeated = kinds.values()
    seen: set[Row] = set()
    for row in rows:
        video_id, _, start_s, end_s = row
        shown = f"{video_id} [{start_s:g}, {end_s:g}]"
        if start_s == end_s:
            no_length.append(shown)
        if start_s > durations_s.get(video_id, math.inf):
            late.append(shown)
        if row in seen:
            repeated.append(shown)
        seen.add(row)
    return [
        f"{count_noun(len(own), noun)} {kind} {agree_verb(len(own), 'counts', 'count')}, as in the "
        f"official codes: {list_some(own)}"
        for kind, own in kinds.items()
        if own
    ]
