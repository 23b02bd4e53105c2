"""`flowpipe evaluate`: labels + a file of scores or detections -> the figures of papers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from flowpipe.cli.choices import Choice
from flowpipe.cli.detection_table import evaluate_detection_files, print_detection_results
from flowpipe.cli.folders import STORE_OR_OTHER
from flowpipe.cli.labels import Labels, files_by_split, read_labels
from flowpipe.cli.paths import FILE_THERE
from flowpipe.cli.screen import print_table, say, write_json
from flowpipe.datasets import published_test
from flowpipe.errors import UsageError
from flowpipe.evaluation import (
    PROTOCOLS,
    Result,
    Scores,
    read_scores,
    select_ground_truth,
    test_splits,
)
from flowpipe.evaluation import (
    evaluate as figures_of,
)
from flowpipe.evaluation.detection_protocols import DETECTION_PROTOCOLS
from flowpipe.evaluation.detections import has_detections
from flowpipe.splits import split_name
from flowpipe.words import count_noun, list_some

_SHOWN = 5
_BY_SUFFIX = (".json", ".h5", ".npz")


@click.command()
@click.argument("store", metavar="STORE|ANNOTATIONS", type=STORE_OR_OTHER)
@click.argument("scores", nargs=-1, required=True, type=FILE_THERE)
@click.option("--protocol", "name", type=Choice([*PROTOCOLS, *DETECTION_PROTOCOLS]),
              help="Evaluation protocol.  [default: the data set's own]")  # fmt: skip
@click.option("--split", "splits", multiple=True, metavar="NAME",
              help="Test split, such as test1; repeat for more.  [default: all]")  # fmt: skip
@click.option("--tiou", metavar="NUMBERS",
              help="tIoU thresholds for detections, such as 0.3,0.5.  [default: the protocol's]",
              )  # fmt: skip
@click.option("--allow-missing", is_flag=True, help="Skip test videos without scores.")
@click.option("--per-class", is_flag=True, help="Also print every class.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    store: Path,
    scores: tuple[Path, ...],
    name: str | None,
    splits: tuple[str, ...],
    tiou: str | None,
    allow_missing: bool,
    per_class: bool,
    as_json: bool,
) -> None:
    """Compare SCORES with the labels of the test videos of a STORE.

    \b
    flowpipe evaluate store scores.h5
    flowpipe evaluate store scores.txt --split test1 --per-class
    flowpipe evaluate store detections.json
    flowpipe evaluate activity_net.v1-3.min.json detections.json
    flowpipe evaluate thumos14/temporal_annotations_test detections.txt

    SCORES is a text file with one video per line (its id, then a score for every class, as in
    THUMOS submissions), a .npz with video_ids and scores, or a .h5 of `flowpipe test`. Give one
    file for all splits, or one file per split in order.

    Temporal detections are a .json file in the form of ActivityNet's challenge, or a text file with
    one detection per line (video id, start, end, class number, score, as in THUMOS submissions).
    Official annotations can take the place of the store: a JSON file in the form of ActivityNet's,
    or the folder with THUMOS14's temporal annotations.
    """
    labels, chosen = read_labels(store), [split_name(one) for one in splits]
    found = {path: has_detections(path, len(labels.class_names)) for path in scores}
    detections = name in DETECTION_PROTOCOLS if name else all(found.values())
    for path, has in found.items():
        if has != detections and path.suffix.lower() in _BY_SUFFIX:
            kinds = ("scores of videos", "temporal detections")
            raise UsageError(
                f"{path} has {kinds[has]}, wanted {kinds[detections]}; choose the --protocol for "
                "what the files have, and evaluate one kind at a time"
            )
    if detections:
        if allow_missing:
            raise UsageError("--allow-missing is for scores; a video may have no detection")
        protocol = DETECTION_PROTOCOLS[name or published_test(labels.dataset).detection]
        by_split = evaluate_detection_files(
            labels, scores, protocol, splits=chosen, tiou=_thresholds(tiou)
        )
        print_detection_results(by_split, labels.class_names, per_class=per_class, as_json=as_json)
        return
    if tiou is not None:
        raise UsageError("--tiou is for detections; the files have scores of videos")
    results = evaluate_score_files(labels, scores, name, chosen, allow_missing)
    print_results(results, labels.class_names, per_class, as_json)


def evaluate_score_files(
    labels: Labels,
    files: Sequence[Path],
    name: str | None,
    splits: Sequence[str],
    allow_missing: bool,
) -> dict[str, Result]:
    """Return the result of each split for scores of videos; the protocol may have a `name`.

    Raises
    ------
    FormatError
        If a file has another form.
    UsageError
        If a split has no labels, or videos have no scores unless `allow_missing` is set.
    """
    published = published_test(labels.dataset)
    protocol = PROTOCOLS[name or published.protocol]
    chosen = tuple(splits) or test_splits(labels.records)
    known = {record.video_id for record in labels.records}
    read = {path: read_scores(path, len(labels.class_names)) for path in files}
    results = {}
    for split, path in files_by_split(files, chosen, "scores"):
        truth = select_ground_truth(labels.records, split, len(labels.class_names))
        one = read[path]
        values, missing = one.of(truth.video_ids)
        _say_what_differs(
            one, split, truth.video_ids, missing, known=known, allow_missing=allow_missing
        )
        kept = ~np.isin(truth.video_ids, missing)
        results[split] = figures_of(protocol, values, truth.positives[kept])
        official = published.videos.get(split)
        of_them = f" of {official} official ones" if official else ""
        say(f"{split}: {count_noun(int(kept.sum()), 'video')}{of_them}, {protocol.name}")
    return results


def _thresholds(text: str | None) -> list[float]:
    """Return the values of --tiou; UsageError unless all are in [0, 1)."""
    if text is None:
        return []
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(0 <= value < 1 for value in values):
        raise UsageError(f"--tiou must be numbers from 0 to below 1, such as 0.3,0.5, got {text}")
    return values


def _say_what_differs(
    scores: Scores,
    split: str,
    video_ids: Sequence[str],
    missing: tuple[str, ...],
    *,
    known: Collection[str],
    allow_missing: bool,
) -> None:
    unknown = [key for key in scores.video_ids if key not in known]
    if unknown:
        say(
            f"{scores.source}: {count_noun(len(unknown), 'id')} not in the store and ignored: "
            f"{list_some(unknown, _SHOWN)}"
        )
    if not missing:
        return
    words = (
        f"{scores.source} has no scores for {len(missing)} of "
        f"{count_noun(len(video_ids), 'video')} of {split}: {list_some(missing, _SHOWN)}"
    )
    if not allow_missing or len(missing) == len(video_ids):
        raise UsageError(f"{words}; add them, or leave them out with --allow-missing")
    say(words)


def print_results(
    results: dict[str, Result], classes: Sequence[str], per_class: bool, as_json: bool
) -> None:
    """Print one row per split and their mean, as a table or JSON, optionally by class."""
    names = list(next(iter(results.values())).figures)
    rows = {split: dict(result.figures) for split, result in results.items()}
    if len(rows) > 1:
        rows["mean"] = {n: float(np.mean([row[n] for row in rows.values()])) for n in names}
    by_class = {split: result.by_class for split, result in results.items()}
    if as_json:
        facts: dict[str, Any] = {"splits": rows}
        if per_class:
            facts["classes"] = {
                split: {n: None if np.isnan(v) else float(v) for n, v in
                        zip(classes, values, strict=True)}
                for split, values in by_class.items()
            }  # fmt: skip
        write_json(facts)
        return
    print_table(
        ((split, *(f"{100 * row[n]:.2f}" for n in names)) for split, row in rows.items()),
        header=("split", *(f"{n}, %" for n in names)),
    )
    unseen = np.isnan(np.stack(list(by_class.values()))).any(axis=0)
    empty = [classes[k] for k in np.flatnonzero(unseen).tolist()]
    if empty:
        say(
            f"{count_noun(len(empty), 'class', 'classes')} without test videos left out: "
            f"{list_some(empty, _SHOWN)}"
        )
    if per_class:
        print_table(
            (
                (name, *("-" if np.isnan(v[k]) else f"{100 * v[k]:.2f}" for v in by_class.values()))
                for k, name in enumerate(classes)
            ),
            header=("class", *(f"{split}, %" for split in by_class)),
        )
