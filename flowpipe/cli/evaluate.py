"""`flowpipe evaluate`: a store's labels + a file of scores -> the figures that papers report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from flowpipe.cli.choices import Choice
from flowpipe.cli.paths import THERE
from flowpipe.cli.screen import print_table, say, write_json
from flowpipe.cli.store_options import STORE_ARGUMENT
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
from flowpipe.store import Store, open_store
from flowpipe.words import count_noun, list_some

_SHOWN = 5


@click.command()
@STORE_ARGUMENT
@click.argument("scores", nargs=-1, required=True, type=THERE)
@click.option("--protocol", "name", type=Choice(list(PROTOCOLS)),
              help="Evaluation protocol.  [default: the data set's own]")  # fmt: skip
@click.option("--split", "splits", multiple=True, metavar="NAME",
              help="Test split, such as test1; repeat for more.  [default: all]")  # fmt: skip
@click.option("--allow-missing", is_flag=True, help="Skip test videos without scores.")
@click.option("--per-class", is_flag=True, help="Also print every class.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    store: Path,
    scores: tuple[Path, ...],
    name: str | None,
    splits: tuple[str, ...],
    allow_missing: bool,
    per_class: bool,
    as_json: bool,
) -> None:
    """Compare SCORES with the labels of the test videos of a STORE.

    \b
    flowpipe evaluate store scores.h5
    flowpipe evaluate store scores.txt --split test1 --per-class

    SCORES is a text file with one video per line (its id, then a score for every class, as in
    THUMOS submissions), a .npz with video_ids and scores, or a .h5 of `flowpipe test`. Give one
    file for all splits, or one file per split in order.
    """
    opened = open_store(store)
    records = [video.record for video in opened.videos.values()]
    published = published_test(str(opened.header.dataset.get("dataset", "")))
    protocol = PROTOCOLS[name or published.protocol]
    classes = opened.header.class_names
    chosen = splits or test_splits(records)
    if len(scores) not in (1, len(chosen)):
        raise UsageError(
            f"{count_noun(len(scores), 'file')} of scores for {count_noun(len(chosen), 'split')} "
            f"({', '.join(chosen)}): give one file for all splits, one per split, or select splits "
            "with --split"
        )
    read = [read_scores(path, len(classes)) for path in scores]
    results = {}
    for k, split in enumerate(chosen):
        truth = select_ground_truth(records, split, len(classes))
        one = read[k % len(read)]
        values, missing = one.of(truth.video_ids)
        _say_what_differs(one, split, truth.video_ids, missing, opened, allow_missing)
        kept = ~np.isin(truth.video_ids, missing)
        results[split] = figures_of(protocol, values, truth.positives[kept])
        official = published.videos.get(split)
        of_them = f" of {official} official ones" if official else ""
        say(f"{split}: {count_noun(int(kept.sum()), 'video')}{of_them}, {protocol.name}")
    print_results(results, classes, per_class, as_json)


def _say_what_differs(
    scores: Scores,
    split: str,
    video_ids: Sequence[str],
    missing: tuple[str, ...],
    store: Store,
    allow_missing: bool,
) -> None:
    unknown = [key for key in scores.video_ids if key not in store.videos]
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
