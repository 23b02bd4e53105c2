"""Untrimmed videos of real clips -> tIoU mAP of `flowpipe localise`, by stream and fusion.

    python benchmarks/ut_interaction.py --work ut --streams rgb,rgb_diff,flow   first: the networks
    python benchmarks/localisation.py --work ut [--folds 1,2] [--seconds 20]
        [--streams rgb,rgb_diff,flow] [-- --smooth 2 ...]

The videos are those of untrimmed.py: each clip of UT-Interaction, some 4 s, between unrelated clips
of UCF101, HMDB51 and Kinetics. Their networks were trained on short clips of other sequences and
have no background class. Every step is a flowpipe command: extract, features, localise, evaluate.
The ground truth is written as ActivityNet's annotations. Figures are means over the folds. Finished
steps are not repeated, except the last two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from untrimmed import FPS, build
from ut_interaction import SHARED, ListedClip, flowpipe, read_list

PROTOCOL = "activitynet-detection"
TIOU = (0.1, 0.3, 0.5, 0.7)


def main() -> None:
    """Build, extract, compute features, localise, evaluate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of ut_interaction.py")
    parser.add_argument("--folds", default="1,2")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="seconds of background per video"
    )
    parser.add_argument("--streams", default="rgb,rgb_diff")
    parser.add_argument("options", nargs="*", help="further options of flowpipe localise")
    chosen = parser.parse_args()
    folds = [int(fold) for fold in chosen.folds.split(",")]
    streams = chosen.streams.split(",")
    folder = chosen.work / f"untrimmed-{chosen.seconds:g}s"
    clips = read_list(SHARED / "action" / "utinteraction")
    build(folder, clips, folds, chosen.seconds)
    truth = write_annotations(folder, clips, folds, chosen.seconds)
    flowpipe(
        "extract", "--videos", folder / "list.csv", "--out", folder / "store", "--recipe",
        Path(__file__).with_name("ut_interaction.yaml"), "--modalities", chosen.streams,
        "--workers", 1,
    )  # fmt: skip
    fusions = [(name,) for name in streams]
    fusions += combinations(streams, 2)
    fusions += [tuple(streams)] if len(streams) > 2 else []
    figures: dict[tuple[str, ...], list[Mapping[str, float]]] = {one: [] for one in fusions}
    for fold in folds:
        features = folder / f"features-{fold}-{'+'.join(streams)}.h5"
        if not features.exists():
            runs = [chosen.work / "true" / f"{name}-{fold}" for name in streams]
            flowpipe("features", folder / "store", *runs, "-o", features, "--split", f"test{fold}")
        for one in fusions:
            detections = folder / f"detections-{fold}-{'+'.join(one)}.json"
            names = ("--streams", ",".join(one))
            flowpipe("localise", features, "-o", detections, *names, *chosen.options)
            figures[one].append(evaluate(truth, detections, f"test{fold}"))
    show(figures)


def write_annotations(
    folder: Path, clips: Sequence[ListedClip], folds: Sequence[int], seconds: float
) -> Path:
    """Write where the clips are in the videos of `untrimmed.build`, as ActivityNet's JSON."""
    database = {}
    for number, clip in enumerate(clips):
        if clip.fold in folds:
            before = round(np.random.default_rng(number).uniform(0.2, 0.8) * seconds * FPS)
            instance = [before / FPS, (before + clip.shape[2]) / FPS]
            database[clip.video_id] = {
                "subset": f"test{clip.fold}",
                "annotations": [{"label": clip.label, "segment": instance}],
            }
    path = folder / "annotations.json"
    path.write_text(json.dumps({"version": "UT", "taxonomy": [], "database": database}))
    return path


def evaluate(truth: Path, detections: Path, split: str) -> Mapping[str, float]:
    """Return what ``flowpipe evaluate`` prints for a split."""
    command = (
        "evaluate", truth, detections, "--split", split, "--protocol", PROTOCOL,
        "--tiou", ",".join(map(str, TIOU)), "--json",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "flowpipe", *map(str, command)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: Mapping[str, float] = json.loads(done.stdout)["splits"][split]
    return found


def show(figures: Mapping[tuple[str, ...], Sequence[Mapping[str, float]]]) -> None:
    """Print the table, means over the folds."""
    names = [f"mAP@{value:g}" for value in TIOU]
    print(f"{'%':30}" + "".join(f"{name:>10}" for name in names))
    for one, by_fold in figures.items():
        values = (100 * np.mean([each[name] for each in by_fold]) for name in names)
        print(f"{' + '.join(one):30}" + "".join(f"{value:10.1f}" for value in values))


if __name__ == "__main__":
    main()
