"""Sums over the steps of an epoch -> a row of the training's log, and its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sums:
    """Of an epoch so far."""

    loss: float = 0.0
    right: float = 0.0
    videos: float = 0.0
    seconds: float = 0.0
    stalled_s: float = 0.0

    def __iadd__(self, other: Sums) -> Sums:
        for name in ("loss", "right", "videos", "seconds", "stalled_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass
class State:
    """Where a run is."""

    step: int = 0
    best: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    """Of the epoch that it is in."""


def row_of(
    trained: Sums,
    validated: Sums | None,
    *,
    epoch: int,
    step: int,
    segments: int,
    world: int,
    lr: float,
) -> dict[str, Any]:
    """The row of an epoch; sums are those of all `world` processes together."""
    row = {
        "epoch": epoch,
        "step": step,
        "lr": lr,
        "train_loss": trained.loss / max(1, trained.videos),
        "train_accuracy": trained.right / max(1, trained.videos),
        "seconds": trained.seconds / world,
        "stall_share": trained.stalled_s / trained.seconds,
        "snippets_per_s": trained.videos * segments * world / max(trained.seconds, 1e-9),
    }
    if validated is not None:
        row["val_loss"] = validated.loss / max(1, validated.videos)
        row["val_accuracy"] = validated.right / max(1, validated.videos)
    return row


def words_of(row: Mapping[str, Any], epochs: int) -> str:
    """A row in a line, with the time that is left."""
    words = (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.4f}, accuracy "
        f"{row['train_accuracy']:.3f}"
    )
    if "val_loss" in row:
        words += f"; validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.3f}"
    left_s = (epochs - row["epoch"]) * row["seconds"]
    return words + (
        f"; {row['snippets_per_s']:.0f} snippets/s, waited for data "
        f"{100 * row['stall_share']:.0f} %, {left_s / 60:.0f} min left"
    )
