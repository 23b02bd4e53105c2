"""Demo sets of several seeds -> accuracy of rgb, flow and warped flow, by the camera's motion.

    python benchmarks/demo.py --work demo [--learn 1,2,8] [--test 2]      some 70 minutes of a core

The built-in demo set has 24 training videos, enough to show the commands, and 12 test videos. The
networks are trained on these 24 (``--learn 1``), or on 2 or 8 whole sets of other seeds, for about
as many steps, and tested on the 12 test videos and `test` more sets. Frames do not depend on the
class, so rgb is expected at chance and flow near 100 %. Where the camera moves, warped flow is
expected to be more accurate than flow, unless there is enough data to learn the camera's motion. An
interrupted run is resumed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ut_interaction import flowpipe, hits

from flowpipe.datasets import demo
from flowpipe.evaluation import fuse, read_h5
from flowpipe.recipes import read_recipe

STREAMS = ("rgb", "flow", "warped_flow")
CAMERAS = ("static", "pan", "handheld")
"""Cameras of clips 00, 01, and 02 to 05 of each class."""


def main() -> None:
    """Make, extract, train, test, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for all results")
    parser.add_argument("--learn", default="1,2,8", help="numbers of sets to train on")
    parser.add_argument("--test", type=int, default=2, help="number of further sets to test on")
    parser.add_argument("--streams", default=",".join(STREAMS))
    chosen = parser.parse_args()
    work, learn = chosen.work, [int(number) for number in chosen.learn.split(",")]
    write_list(work, learn, range(1001, 1001 + chosen.test))
    flowpipe(
        "extract", "--videos", work / "list.csv", "--out", work / "store", "--recipe", "demo",
        "--modalities", ",".join(STREAMS),
    )  # fmt: skip
    for sets in learn:
        for stream in chosen.streams.split(","):
            if not (work / f"{stream}-{sets}.h5").exists():
                train_and_test(work, stream, sets)
    for sets in learn:
        show(work, sets)


def write_list(work: Path, learn: Sequence[int], test: Sequence[int]) -> None:
    """Make the missing sets, and the list of all clips."""
    work.mkdir(parents=True, exist_ok=True)
    others = range(1, max(learn) + 1) if max(learn) > 1 else ()
    with (work / "list.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("video_id", "path", "label", "split"))
        for seed in (demo.SEED, *test, *others):
            for record in demo.load((work / f"set-{seed}").absolute(), seed=seed).records:
                if seed in test or (seed == demo.SEED and record.subset == "testing"):
                    splits = [f"test{sets}" for sets in learn]
                elif seed == demo.SEED:
                    splits = ["train1"]
                else:
                    splits = [f"train{sets}" for sets in learn if 1 < sets >= seed]
                label = demo.CLASS_NAMES[record.labels[0]]
                table.writerow((f"{record.video_id}@{seed}", record.path, label, " ".join(splits)))


def train_and_test(work: Path, stream: str, sets: int) -> None:
    """Train and test a stream by the recipe; with n sets, for 1/n of the epochs."""
    recipe = read_recipe("demo").build()[1]
    assert recipe is not None
    own = recipe.streams[stream].schedule
    schedule, name = f"streams.{stream}.schedule", f"{stream}-{sets}"
    epochs, steps = own.end // sets, [step // sets for step in own.lr_steps]
    flowpipe(
        "train", work / "store", "--recipe", "demo", "--modality", stream, "--split", sets,
        "-o", work / name, "--set", f"{schedule}.end={epochs}",
        "--set", f"{schedule}.lr_steps={steps}",
        "--validate-every", epochs, "--workers", 0,
    )  # fmt: skip
    flowpipe("test", work / "store", work / name, "-o", work / f"{name}.h5")


def show(work: Path, sets: int) -> None:
    """Print the correct answers of each stream by the camera motion of the video."""
    paths = {name: work / f"{name}-{sets}.h5" for name in STREAMS}
    found = {name: read_h5(path) for name, path in paths.items() if path.exists()}
    if len(found) > 1:
        found[" + ".join(found)] = fuse(list(found.values()), [1.0] * len(found))
    title = f"{24 if sets == 1 else 36 * sets} videos learnt from, %"
    print(f"\n{title:28}" + "".join(f"{name:>10}" for name in (*CAMERAS, "all")))
    counts: list[int] = []
    for name, scores in found.items():
        clips = [int(video_id.partition("@")[0][-2:]) for video_id in scores.video_ids]
        cameras = np.array([CAMERAS[min(clip, 2)] for clip in clips])
        chosen = [cameras == camera for camera in CAMERAS] + [cameras != ""]
        right = hits(scores)
        print(f"{name:28}" + "".join(f"{100 * right[one].mean():10.1f}" for one in chosen))
        counts = [int(one.sum()) for one in chosen]
    print(f"{'videos':28}" + "".join(f"{count:>10}" for count in counts))


if __name__ == "__main__":
    main()
