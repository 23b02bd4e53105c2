"""Labels + files of detections -> the table of mean average precision by tIoU threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.cli.labels import Labels, files_by_split
from flowpipe.cli.screen import print_table, say, write_json
from flowpipe.errors import UsageError
from flowpipe.evaluation.detection_protocols import (
    DetectionProtocol,
    DetectionResult,
    evaluate_detections,
)
from flowpipe.evaluation.detections import Detections, match_ids, read_detections
from flowpipe.evaluation.instances import InstanceGroundTruth, select_instances, test_splits
from flowpipe.evaluation.odd_intervals import describe_odd, rows_of_detections, rows_of_instances
from flowpipe.words import agree_verb, count_noun, did_you_mean, list_some

_SHOWN = 5


def evaluate_detection_files(
    labels: Labels,
    files: Sequence[Path],
    protocol: DetectionProtocol,
    *,
    splits: Sequence[str],
    tiou: Sequence[float],
) -> dict[str, DetectionResult]:
    """Return the result of each split.

    Parameters
    ----------
    labels : Labels
    files : sequence of Path
        One file for all splits, or one for each.
    protocol : DetectionProtocol
    splits : sequence of str
        Splits to evaluate; empty for all test splits with instances.
    tiou : sequence of float
        tIoU thresholds; empty for the protocol's own.

    Raises
    ------
    FormatError
        If a file has another form.
    UsageError
        If a split has no instances, or a file has no detection of a known video.
    """
    if not any(record.segments for record in labels.records):
        raise UsageError(
            f"{labels.source} has no labelled time intervals, so detections cannot be evaluated on "
            "it; give the official annotations in its place: a JSON file in the form of "
            "ActivityNet's, or THUMOS14's folder"
        )
    chosen = tuple(splits) or test_splits(labels.records)
    results = {}
    for split, path in files_by_split(files, chosen, "detections"):
        truth = select_instances(labels.records, split)
        found = match_ids(
            read_detections(path, labels.class_names), {r.video_id for r in labels.records}
        )
        found = _leave_out(found, labels, truth, chosen if len(files) < len(chosen) else (split,))
        _say_what_differs(found, labels, truth)
        results[split] = evaluate_detections(protocol, found, truth, tiou)
        instances = sum(one.count for one in truth.classes.values())
        say(
            f"{split}: {count_noun(len(found), 'detection')}, {count_noun(instances, 'instance')} "
            f"of {count_noun(len(truth.classes), 'class', 'classes')}, {protocol.name}"
        )
    return results


def print_detection_results(
    results: Mapping[str, DetectionResult],
    class_names: Sequence[str],
    *,
    per_class: bool,
    as_json: bool,
) -> None:
    """Print a row per tIoU threshold and a column per split, or JSON, optionally by class."""
    rows = {split: _figures(result) for split, result in results.items()}
    if len(rows) > 1:
        names = next(iter(rows.values()))
        rows["mean"] = {n: float(np.mean([row[n] for row in rows.values()])) for n in names}
    if as_json:
        facts: dict[str, Any] = {"splits": rows}
        if per_class:
            facts["classes"] = {
                split: {
                    class_names[label]: dict(zip(_names(one), precisions.tolist(), strict=True))
                    for label, precisions in zip(one.labels, one.by_class.T, strict=True)
                }
                for split, one in results.items()
            }
        write_json(facts)
        return
    print_table(
        (
            (name.removeprefix("mAP@"), *(f"{100 * row[name]:.2f}" for row in rows.values()))
            for name in next(iter(rows.values()))
        ),
        header=("tIoU", *(f"{split}, mAP, %" for split in rows)),
    )
    if per_class:
        for split, one in results.items():
            print_table(
                (
                    (class_names[label], *(f"{100 * value:.2f}" for value in precisions))
                    for label, precisions in zip(one.labels, one.by_class.T, strict=True)
                ),
                header=(f"{split}: class, AP, %", *(f"{value:g}" for value in one.tiou)),
            )


def _names(result: DetectionResult) -> list[str]:
    return [f"mAP@{value:g}" for value in result.tiou]


def _figures(result: DetectionResult) -> dict[str, float]:
    values = result.mean_average_precision.tolist()
    figures = dict(zip(_names(result), values, strict=True))
    return {**figures, "average": result.average} if len(values) > 1 else figures


def _leave_out(
    found: Detections, labels: Labels, truth: InstanceGroundTruth, chosen: Sequence[str]
) -> Detections:
    """Return the detections without those of videos in no split, or in another chosen split."""
    elsewhere = {
        record.video_id
        for record in labels.records
        if record.video_id not in truth.video_ids
        and (not record.splits or set(record.splits) & set(chosen))
    }
    kept = np.array([video_id not in elsewhere for video_id in found.video_ids], bool)
    if not kept.all():
        say(
            f"{found.source}: {count_noun(int((~kept).sum()), 'detection')} of videos in another "
            f"split than {truth.split}, or in none, left out"
        )
    return found.select(kept)


def _say_what_differs(found: Detections, labels: Labels, truth: InstanceGroundTruth) -> None:
    unknown = list(dict.fromkeys(key for key in found.video_ids if key not in truth.video_ids))
    if len(unknown) == len(set(found.video_ids)):
        examples = list_some(sorted(truth.video_ids), _SHOWN)
        raise UsageError(
            f"{found.source} has no detection of a video of {truth.split} in {labels.source}; its "
            f"videos are {list_some(unknown, _SHOWN) or 'none'}, those wanted are {examples}; "
            "rename the videos, or choose another split with --split"
        )
    if unknown:
        say(
            f"{found.source}: the detections of {count_noun(len(unknown), 'video')} count as false "
            f"positives, because {agree_verb(len(unknown), 'it is', 'they are')} not in "
            f"{truth.split}: {list_some(unknown, _SHOWN)}"
        )
    if found.unknown:
        names = list(found.unknown)
        say(
            f"{found.source}: {count_noun(sum(found.unknown.values()), 'detection')} of "
            f"{count_noun(len(names), 'class', 'classes')} that {labels.source} lacks left out: "
            f"{list_some(names, _SHOWN)}; {did_you_mean(names[0], labels.class_names)}"
        )
    for sentence in describe_odd(rows_of_instances(truth), "instance", labels.durations_s):
        say(f"{labels.source}: {sentence}")
    for sentence in describe_odd(rows_of_detections(found), "detection", labels.durations_s):
        say(f"{found.source}: {sentence}")
    counts = Counter(found.labels.tolist())
    absent = [labels.class_names[k] for k in truth.classes if k not in counts]
    if absent:
        say(
            f"{found.source} has no detections of {count_noun(len(absent), 'class', 'classes')}, "
            f"whose average precision is 0: {list_some(absent, _SHOWN)}"
        )
    other = [labels.class_names[k] for k in sorted(counts) if k not in truth.classes]
    if other:
        say(
            f"{found.source}: {count_noun(len(other), 'class', 'classes')} without instances in "
            f"{truth.split} left out: {list_some(other, _SHOWN)}"
        )
    without = {key for key in truth.video_ids} - set(found.video_ids)
    if without:
        say(
            f"{found.source} has no detections of {len(without)} of "
            f"{count_noun(len(truth.video_ids), 'video')} of {truth.split}"
        )
