"""The five backbones of the TSN papers on the demo set: train, kill, resume, test, M-TWI.

    python benchmarks/backbones.py --work backbones [--backbones vgg16,resnet152] [--modality flow]

Six steps of two videos each test the commands and their cost, not accuracy. Weights are random, or
ImageNet's if `--init cross_modality` can fetch them. Each backbone is trained once without
interruption, and once killed after its first checkpoint and resumed; both must end with equal
weights. Then the test videos are scored by the dense protocol (2 snippets, centre crop) and by
M-TWI (centre crop). The program prints a table. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from flowpipe.datasets import demo
from flowpipe.tsn.network.backbones import NETWORKS
from flowpipe.tsn.run_folder import LAST, RunFacts, read_checkpoint

PAPERS = ("bninception", "inception_v3", "googlenet", "vgg16", "resnet152")
STEPS = 6


@dataclass(frozen=True)
class BackboneFigures:
    """Figures of one backbone."""

    backbone: str
    side: int
    """Side of its input, pixels."""
    millions: float
    """Weights of backbone and classifier, millions."""
    train_s: float
    """CPU time to train: the start of the command, 6 steps of 4 images and a validation."""
    losses: str
    """Training loss of the first and the last epoch."""
    resumed: str
    """Line that the killed run printed when it resumed, and whether its weights are the same."""
    dense_s: float
    """CPU time to score all test videos by the dense protocol."""
    mtwi_s: float
    """CPU time to score them by M-TWI."""
    peak_mb: float
    """Peak memory of the training process, MB."""


def main() -> None:
    """Extract, train, kill, resume, test, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for all results")
    parser.add_argument("--backbones", default=",".join(PAPERS))
    parser.add_argument("--modality", default="rgb", choices=["rgb", "flow", "rgb_diff"])
    parser.add_argument("--init", default="random", choices=["random", "cross_modality"])
    chosen = parser.parse_args()
    store = make_store(chosen.work)
    rows = []
    for backbone in chosen.backbones.split(","):
        file = chosen.work / f"{backbone}-{chosen.modality}-{chosen.init}.json"
        if not file.exists():
            made = measure(store, file.with_suffix(""), backbone, chosen.modality, chosen.init)
            file.write_text(json.dumps(asdict(made), indent=1))
        rows.append(BackboneFigures(**json.loads(file.read_text())))
    print(
        f"\n{chosen.modality}, init {chosen.init}; CPU time in seconds, with starting each command"
    )
    names = ("backbone", "side", "M", "train", "loss", "dense", "M-TWI", "MB", "resumed")
    print("{:14}{:>5}{:>7}{:>8}{:>16}{:>9}{:>9}{:>7}  {}".format(*names))
    for row in rows:
        print(
            f"{row.backbone:14}{row.side:>5}{row.millions:>7.1f}{row.train_s:>8.1f}{row.losses:>16}"
            f"{row.dense_s:>9.1f}{row.mtwi_s:>9.1f}{row.peak_mb:>7.0f}  {row.resumed}"
        )


def make_store(work: Path) -> Path:
    """Make a store of one training and one test video of each class of the demo set."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "list.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("video_id", "path", "label", "split"))
        taken = set()
        for record in demo.load((work / "clips").absolute()).records:
            split = "test1" if record.subset == "testing" else "train1"
            if (record.labels, split) not in taken:
                taken.add((record.labels, split))
                label = demo.CLASS_NAMES[record.labels[0]]
                table.writerow((record.video_id, record.path, label, split))
    command(
        "extract", "--videos", work / "list.csv", "--out", work / "store", "--recipe", "demo",
        "--modalities", "rgb,flow",
    )  # fmt: skip
    return work / "store"


def measure(store: Path, work: Path, backbone: str, modality: str, init: str) -> BackboneFigures:
    """Train, kill, resume and test one backbone; its networks stay below `work`."""
    stream = f"streams.{modality}"
    options = (
        "train", store, "--recipe", "default", "--modality", modality, "--workers", 0,
        "--device", "cpu", "--validate-every", 100,
        *(
            word
            for setting in (
                f"backbone={backbone}", f"init={init}", "segments=2",
                f"partial_bn={'false' if init == 'random' else 'true'}",
                "schedule.unit=iterations", f"schedule.end={STEPS}", "schedule.lr_steps=[]",
                "schedule.batch_size=2", "schedule.lr=0.001",
            )
            for word in ("--set", f"{stream}.{setting}")
        ),
        "-o",
    )  # fmt: skip
    whole, broken = work / "whole", work / "broken"
    train_s, peak_mb, _ = command(*options, whole)
    run_and_kill((broken / LAST).exists, *options, broken)
    _, _, said = command(*options, broken)
    found = re.search(r"resuming at step \d+ of \d+", said)
    one, other = (read_checkpoint(run / LAST)["model"] for run in (whole, broken))
    same = all(torch.equal(one[name], other[name]) for name in one)
    with (whole / "log.csv").open() as file:
        epochs = list(csv.DictReader(file))
    dense_s, mtwi_s = (
        command(
            "test",
            store,
            whole,
            "-o",
            work / f"{protocol}.h5",
            "--device",
            "cpu",
            "--protocol",
            protocol,
            "--crops",
            1,
            *more,
        )[0]
        for protocol, more in (("dense", ("--snippets", 2)), ("mtwi", ()))
    )
    facts = RunFacts.read(whole)
    return BackboneFigures(
        backbone, NETWORKS[facts.stream.backbone].size,
        sum(value.numel() for value in one.values()) / 1e6,
        train_s,
        f"{float(epochs[0]['train_loss']):.2f} -> {float(epochs[-1]['train_loss']):.2f}",
        f"{found[0] if found else 'began anew'}, weights {'equal' if same else 'DIFFER'}",
        dense_s, mtwi_s, peak_mb,
    )  # fmt: skip


def command(*words: object) -> tuple[float, float, str]:
    """Run one command; return its CPU time in seconds, its peak memory in MB and its output."""
    print("+ flowpipe", *words, flush=True)
    process = subprocess.Popen(line(words), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(said)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3, said


def run_and_kill(due: Callable[[], bool], *words: object) -> None:
    """Run one command and kill it when a condition holds."""
    print("+ killed: flowpipe", *words, flush=True)
    process = subprocess.Popen(line(words), stderr=subprocess.DEVNULL)
    while not due() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        sys.exit("the run ended before it could be killed")


def line(words: tuple[object, ...]) -> list[str]:
    """Return the command line of `flowpipe` in this interpreter."""
    return [sys.executable, "-m", "flowpipe", *map(str, words)]


if __name__ == "__main__":
    main()
