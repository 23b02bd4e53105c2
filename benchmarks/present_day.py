"""Demo set, several seeds -> accuracy and loss of the recipe and of present-day options.

    python benchmarks/present_day.py --work present [--epochs 24] [--segments 3] [--seeds 1,2,3]

Both train the same small network for as many epochs, a quarter of the recipe's. The options are
AdamW, a cosine with warm-up, label smoothing, RandomResizedCrop, mixup and averaged weights
(docs/training.md). One of the 12 test videos is 8.3 %, so the loss of the scores is
printed too. An interrupted run is resumed. The figures of docs/figures.md were measured with
--epochs 16 --segments 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ut_interaction import flowpipe, hits

from flowpipe.evaluation import read_h5, softmax

OPTIONS = {
    "recipe": {"schedule.lr_steps": "[{most}]"},
    "present-day": {
        "schedule.optimiser": "adamw", "schedule.lr": 2e-4, "schedule.weight_decay": 0.05,
        "schedule.multipliers": "uniform",
        "schedule.lr_policy": "cosine", "schedule.lr_steps": [], "schedule.warmup": 2,
        "schedule.ema": 0.9, "loss.label_smoothing": 0.1, "augment.crops": "resized",
        "augment.area": [0.25, 1.0], "augment.mixup": 0.2,
    },
}  # fmt: skip


def main() -> None:
    """Extract, train, test, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for all results")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--stream", default="flow")
    chosen = parser.parse_args()
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    store = chosen.work / "store"
    if not store.exists():
        flowpipe("extract", "--dataset", "demo", "--out", store, "--modalities", chosen.stream)
    for seed in seeds:
        for name in OPTIONS:
            train_and_test(chosen.work, name, seed, chosen.epochs, chosen.segments, chosen.stream)
    print(f"\n{chosen.stream}, K = {chosen.segments}, {chosen.epochs} epochs, seeds {chosen.seeds}")
    print(f"{'':14}{'accuracy, %':>30}{'mean':>8}{'loss':>24}{'mean':>8}")
    for name in OPTIONS:
        scores = [read_h5(chosen.work / f"{name}-{seed}.h5") for seed in seeds]
        right = [100 * hits(one).mean() for one in scores]
        losses = []
        for one in scores:
            assert one.positives is not None
            losses.append(-np.log(softmax(one.values)[one.positives]).mean())
        shown = "".join(f"{value:7.1f}" for value in right), "".join(f"{v:7.2f}" for v in losses)
        print(f"{name:14}{shown[0]:>30}{np.mean(right):8.1f}{shown[1]:>24}{np.mean(losses):8.2f}")


def train_and_test(
    work: Path, name: str, seed: int, epochs: int, segments: int, stream: str
) -> None:
    """Train one network and score the test videos, unless that is done."""
    run, out = work / f"{name}-{seed}", work / f"{name}-{seed}.h5"
    if out.exists():
        return
    options = {"schedule.end": epochs, "segments": segments, **OPTIONS[name]}
    settings: list[object] = []
    for key, value in options.items():
        text = str(value).format(most=epochs * 3 // 4)
        settings += ["--set", f"streams.{stream}.{key}={text}"]
    flowpipe(
        "train", work / "store", "--recipe", "demo", "--modality", stream, "-o", run,
        "--seed", seed, "--validate-every", epochs, "--workers", 0, "--device", "cpu", *settings,
    )  # fmt: skip
    checkpoint = "last" if name == "recipe" else "ema"
    flowpipe("test", work / "store", run, "-o", out, "--checkpoint", checkpoint, "--device", "cpu")


if __name__ == "__main__":
    main()
