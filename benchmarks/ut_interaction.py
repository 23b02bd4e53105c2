"""UT-Interaction set 1 -> accuracy of streams and fusions; a leak test, a control; ablations.

    python benchmarks/ut_interaction.py --work ut               five folds, four streams: hours
    python benchmarks/ut_interaction.py --work ut --shuffled    the control: labels are shuffled
    python benchmarks/ut_interaction.py --work ut --ablations --folds 1,2
    python benchmarks/ut_interaction.py --work ut224 --recipe benchmarks/ut_interaction_224.yaml
    python benchmarks/ut_interaction.py --work ut --show        the tables of all finished results

The set has 60 clips of six classes in ten sequences. A fold tests on two sequences and trains on
the others. No checkpoint and no weight of a fusion is chosen on the test sequences: the scores are
those of the end of the schedule, the weights are the recipe's. Its settings were chosen among four
on the folds of rgb_diff, so the accuracy on other scenes may be lower. With shuffled labels,
accuracy lies below chance: each class has ten clips, so a class that is frequent in training is
rare among the test videos. The accuracy of always answering the most frequent training class is
printed too. Every step is a flowpipe command, and the same command resumes an interrupted run. The
leak test is a classifier that sees only the size and the length of a clip.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.evaluation import Scores, fuse, read_h5
from flowpipe.recipes import read_recipe

SHARED = Path(
    os.environ.get("FLOWPIPE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
RECIPE = Path(__file__).with_suffix(".yaml")
FOLDS = (1, 2, 3, 4, 5)
STREAMS = ("rgb", "rgb_diff", "flow", "warped_flow")
"""Streams in training order: the flows start from the network of rgb_diff."""
FUSIONS = (
    ("rgb", "flow"), ("rgb", "rgb_diff"), ("rgb_diff", "flow"), ("rgb", "flow", "warped_flow"),
    STREAMS,
)  # fmt: skip
ABLATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "K = 1": ("rgb_diff", {"segments": 1}),
    "K = 3": ("rgb_diff", {}),
    "K = 7": ("rgb_diff", {"segments": 7}),
    "partial BN on": ("flow", {}),
    "partial BN off": ("flow", {"partial_bn": False}),
    "average consensus": ("rgb", {}),
    "top-2 consensus": ("rgb", {"consensus": "top_k", "top_k": 2}),
    "attention consensus": ("rgb", {"consensus": "attention"}),
    "flow from rgb_diff": ("flow", {}),
    "flow from ImageNet": ("flow", {"init_stream": "''"}),
    "flow from ImageNet, random first layer": ("flow", {"init_stream": "''", "init": "imagenet"}),
    "input of 224": ("rgb_diff", {"input_size": 224}),
    "snippets of 5": ("rgb_diff", {"snippet_length": 5}),
}
"""Ablation -> stream and changed settings; without changes it is the main table's stream."""


@dataclass(frozen=True)
class ListedClip:
    """Clip of the set's list."""

    video_id: str
    path: Path
    sequence: int
    label: str
    shape: tuple[int, int, int]
    """Width, height, frames."""

    @property
    def fold(self) -> int:
        return (self.sequence + 1) // 2


@dataclass(frozen=True)
class Training:
    """Training of one network."""

    name: str
    """Name of its files, without suffix."""
    modality: str
    fold: int
    settings: Mapping[str, Any]


def main() -> None:
    """Run the selected steps, then print all results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for all results")
    parser.add_argument(
        "--recipe", type=Path, default=RECIPE, help="recipe; each needs its own --work"
    )
    parser.add_argument("--folds", default="1,2,3,4,5")
    parser.add_argument("--streams", default=",".join(STREAMS))
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--only", default="", help="ablations whose names contain this text")
    parser.add_argument("--show", action="store_true")
    chosen = parser.parse_args()
    clips = read_list(SHARED / "action" / "utinteraction")
    folds = [int(fold) for fold in chosen.folds.split(",")]
    if not chosen.show:
        kind = "shuffled" if chosen.shuffled else "true"
        store = chosen.work / kind / "store"
        extract(store, clips, chosen.recipe, shuffled=chosen.shuffled)
        for fold in folds:
            if chosen.ablations:
                wanted = ablations(fold, chosen.only)
            else:
                wanted = streams(fold, chosen.streams)
            for training in wanted:
                train_and_test(store, chosen.work / kind, chosen.recipe, training)
    show(chosen.work, chosen.recipe, clips)


def read_list(folder: Path) -> list[ListedClip]:
    """Read ``LIST.tsv``."""
    with (folder / "LIST.tsv").open(encoding="utf-8", newline="") as file:
        return [
            ListedClip(
                Path(row["file"]).stem, folder / row["file"], int(row["sequence"]), row["class"],
                (int(row["width"]), int(row["height"]), int(row["frames"])),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]  # fmt: skip


def extract(store: Path, clips: Sequence[ListedClip], recipe: Path, *, shuffled: bool) -> None:
    """Extract all modalities; the control has shuffled labels."""
    labels = labels_of(clips, shuffled=shuffled)
    store.parent.mkdir(parents=True, exist_ok=True)
    list_file = store.parent / "list.csv"
    with list_file.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("video_id", "path", "label", "split"))
        for clip, label in zip(clips, labels, strict=True):
            splits = (f"{'test' if clip.fold == fold else 'train'}{fold}" for fold in FOLDS)
            table.writerow((clip.video_id, clip.path, label, " ".join(splits)))
    flowpipe("extract", "--videos", list_file, "--out", store, "--recipe", recipe)


def labels_of(clips: Sequence[ListedClip], *, shuffled: bool) -> list[str]:
    """Return the label of each clip: its own, or a shuffled one for the control."""
    labels = [clip.label for clip in clips]
    if shuffled:
        random.Random(0).shuffle(labels)
    return labels


def streams(fold: int, names: str) -> Iterator[Training]:
    """Return the trainings of the recipe's own streams."""
    return (Training(f"{name}-{fold}", name, fold, {}) for name in names.split(","))


def ablations(fold: int, only: str) -> Iterator[Training]:
    """Yield the training of each ablation whose name contains `only`."""
    for name, (modality, settings) in ABLATIONS.items():
        if only in name:
            yield Training(file_name(name, fold), modality, fold, settings)


def file_name(ablation: str, fold: int) -> str:
    """Return the name of an ablation's files; without changes it is the stream's."""
    modality, settings = ABLATIONS[ablation]
    values = (f"{key}={value}".replace("''", "none") for key, value in settings.items())
    words = [modality, *values, str(fold)]
    return "-".join(words)


def train_and_test(store: Path, work: Path, recipe: Path, training: Training) -> None:
    """Train and test a network, unless its scores exist."""
    scores = work / f"{training.name}.h5"
    if scores.exists():
        return
    changed = [
        word
        for key, value in training.settings.items()
        for word in ("--set", f"streams.{training.modality}.{key}={value}".lower())
    ]
    flowpipe(
        "train", store, "--recipe", recipe, "--modality", training.modality, "--split",
        training.fold, "-o", work / training.name, "--validate-every", 10, "--workers", 0, *changed,
    )  # fmt: skip
    flowpipe("test", store, work / training.name, "-o", scores)


def show(work: Path, recipe: Path, clips: Sequence[ListedClip]) -> None:
    """Print the tables of all results."""
    print(f"\nsize and length of a clip alone (forest): {100 * leak(clips):.1f} %\n")
    for kind, title in (("true", "accuracy, %"), ("shuffled", "labels shuffled, %")):
        found = {
            name: {fold: read_h5(path) for fold in FOLDS
                   if (path := work / kind / f"{name}-{fold}.h5").exists()}
            for name in STREAMS
        }  # fmt: skip
        if any(found.values()):
            rows = {name: scores for name, scores in found.items() if scores}
            weights = read_recipe(str(recipe)).build()[1].fusion  # type: ignore[union-attr]
            for names in FUSIONS:
                folds = set.intersection(*(set(found[name]) for name in names))
                if folds:
                    used = [weights[name] for name in names]
                    rows[f"{' + '.join(names)} ({':'.join(f'{w:g}' for w in used)})"] = {
                        fold: fuse([found[name][fold] for name in names], used) for fold in folds
                    }
            print_rows(title, rows)
            if kind == "shuffled":
                always = commonest(clips, labels_of(clips, shuffled=True))
                print(f"always the most frequent training class: {100 * always:.1f} %\n")
    rows = {
        f"{name} ({ABLATIONS[name][0]})": scores
        for name in ABLATIONS
        if (scores := {
            fold: read_h5(path) for fold in FOLDS
            if (path := work / "true" / f"{file_name(name, fold)}.h5").exists()
        })
    }  # fmt: skip
    if rows:
        print_rows("ablations, %", rows)


def print_rows(title: str, rows: Mapping[str, Mapping[int, Scores]]) -> None:
    """Print each fold, and all videos of the finished folds."""
    print(f"{title:50}" + "".join(f"{f'fold {fold}':>8}" for fold in FOLDS) + "     all  videos")
    for name, scores in rows.items():
        right = {fold: hits(one) for fold, one in scores.items()}
        of_fold = (f"{100 * right[f].mean():8.1f}" if f in right else f"{'-':>8}" for f in FOLDS)
        everything = np.concatenate(list(right.values()))
        print(f"{name:50}{''.join(of_fold)}{100 * everything.mean():8.1f}{len(everything):8}")
    print()


def hits(scores: Scores) -> NDArray[np.bool_]:
    """Return whether each video's highest score is its class's, bool (N,)."""
    assert scores.positives is not None
    rows = np.arange(len(scores.values))
    found: NDArray[np.bool_] = scores.positives[rows, scores.values.argmax(1)]
    return found


def commonest(clips: Sequence[ListedClip], labels: Sequence[str]) -> float:
    """Return the accuracy over all folds of always answering the most common training class.

    If several labels are equally common, it is the mean over them.
    """
    right = 0.0
    for fold in FOLDS:
        train = Counter(
            label for clip, label in zip(clips, labels, strict=True) if clip.fold != fold
        )
        test = Counter(labels) - train
        best = [label for label, count in train.items() if count == max(train.values())]
        right += sum(test[label] for label in best) / len(best)
    return right / len(clips)


def leak(clips: Sequence[ListedClip]) -> float:
    """Return the accuracy of a forest that sees width, height and frames, on the same folds."""
    from sklearn.ensemble import RandomForestClassifier

    x = np.array([clip.shape for clip in clips])
    y, folds = np.array([clip.label for clip in clips]), np.array([clip.fold for clip in clips])
    right = 0
    for fold in FOLDS:
        forest = RandomForestClassifier(500, random_state=0).fit(x[folds != fold], y[folds != fold])
        right += int((forest.predict(x[folds == fold]) == y[folds == fold]).sum())
    return right / len(clips)


def flowpipe(*words: object) -> None:
    """Run one command."""
    print("+ flowpipe", *words, flush=True)
    subprocess.run([sys.executable, "-m", "flowpipe", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
