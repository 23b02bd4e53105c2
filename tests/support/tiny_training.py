"""Trainings of tiny networks, and what is read from their run folders."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from checkout import python_path

from flowpipe.recipes import read_recipe
from flowpipe.tsn import run_folder
from flowpipe.tsn.distributed import Processes
from flowpipe.tsn.run_folder import LAST, read_checkpoint
from flowpipe.tsn.training.job import TrainJob
from flowpipe.tsn.training.train import Trainer, train

tiny.register()
MEASURED_HERE = ("seconds", "stalled_s", "stall_share", "snippets_per_s", "peak_memory_mb")
"""Columns of logs that differ between runs."""
MIXED = {
    "augment.mixup": 0.4, "augment.colour_jitter": "{brightness: 0.4, hue: 0.1}",
    "loss.label_smoothing": 0.1, "schedule.ema": 0.9, "schedule.optimiser": "adamw",
    "schedule.lr": 0.01, "schedule.lr_policy": "cosine", "schedule.lr_steps": [],
    "schedule.warmup": 1,
}  # fmt: skip
"""Settings of a stream: jitter, mixup, and what may interfere with them."""
PROGRAM = Path(__file__).with_name("tiny_program.py")


def job(
    store: Path,
    folder: Path,
    run: str = "run",
    *,
    modality: str = "rgb",
    stream: Mapping[str, Any] | None = None,
    **options,
) -> TrainJob:
    """Return a training job; `stream` has settings by key, as ``{"schedule.lr": 0.1}``."""
    recipe_options = {k: options.pop(k) for k in ("backbone", "dropout", "end") if k in options}
    path = tiny.write_recipe(folder / "recipe.yaml", **recipe_options)
    settings = [f"train.streams.{modality}.{k}={v}" for k, v in (stream or {}).items()]
    made = read_recipe(str(path)).build(settings)[1]
    assert made is not None
    return TrainJob(store, folder / run, made, modality, workers=0, **options)


def trainer_of(wanted: TrainJob) -> Trainer:
    return Trainer(wanted, Processes(), lambda line: None, lambda *step: None)


def run(wanted: TrainJob) -> list[str]:
    told: list[str] = []
    train(wanted, told.append)
    return told


def interrupt_training(wanted: TrainJob, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the checkpoint of a step is written, as if Ctrl-C came then."""
    plain = run_folder.save

    def save_and_stop(path: Path, values: Mapping[str, Any]) -> None:
        plain(path, values)
        if path.name == LAST and values["step"] == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(replace(wanted, save_s=0.0))


def train_and_resume(
    store: Path, folder: Path, step: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Path, Path, list[str]]:
    """Train a run to its end, and the same run interrupted after a step and resumed.

    Returns
    -------
    whole, broken : Path
        Folders of the runs, whose log and last weights are equal.
    told : list of str
        Lines of the resumed run.
    """
    options = {"backbone": "tiny_bn", "dropout": 0.5, **options}
    whole, broken = (job(store, folder, name, **options) for name in ("whole", "broken"))
    run(whole)
    interrupt_training(broken, step, monkeypatch)
    told = run(broken)
    assert curve(whole.run) == curve(broken.run)
    assert_same_weights(whole.run, broken.run)
    return whole.run, broken.run, told


def weights(folder: Path, name: str = LAST) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name)["model"]


def curve(folder: Path, name: str = "log.csv") -> list[dict[str, str]]:
    """Return a log without times and memory."""
    with (folder / name).open() as file:
        return [
            {k: v for k, v in row.items() if k not in MEASURED_HERE} for row in csv.DictReader(file)
        ]


def assert_same_weights(one: Path, other: Path, name: str = LAST, **tolerance: float) -> None:
    a, b = weights(one, name), weights(other, name)
    assert a.keys() == b.keys()
    for name in a:
        if tolerance:
            torch.testing.assert_close(a[name], b[name], **tolerance)
        else:
            assert torch.equal(a[name], b[name]), name


def command(store: Path, folder: Path, name: str, *more: str, end: int = 200) -> list[str]:
    file = folder / "recipe.yaml"
    recipe = tiny.write_recipe(file, "tiny_bn", dropout=0.5, end=end, step=end * 3 // 4)
    return [
        sys.executable, str(PROGRAM), "train", str(store), "--modality", "rgb", "--recipe",
        str(recipe), "-o", str(folder / name), "--workers", "1", "--validate-every", "50", *more,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": python_path(PROGRAM.parent)}
