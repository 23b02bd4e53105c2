"""Sums over steps -> rows of the training's log by epoch, and the lines that it prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MEASURED = 3
"""Figures of a batch that the device sums up: loss, correct top-1, correct top-5."""


@dataclass
class Sums:
    """Running sums over steps of all processes together."""

    loss: float = 0.0
    """Sum of the losses of all videos."""
    right: float = 0.0
    """Videos whose class has the highest score."""
    right_in_5: float = 0.0
    """Videos whose class is among the five highest scores."""
    videos: float = 0.0
    seconds: float = 0.0
    """Duration, summed over processes."""
    stalled_s: float = 0.0
    """Time that processes waited for data."""
    gradient_norm: float = 0.0
    """Sum of the finite L2 norms of the gradient before clipping."""
    norms: float = 0.0
    """Number of norms in `gradient_norm`: steps, less those that fp16's scaler leaves out."""

    def __iadd__(self, other: Sums) -> Sums:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    def means(self) -> dict[str, float]:
        """Return loss, accuracy and top5 by video."""
        videos = max(1.0, self.videos)
        return {
            "loss": self.loss / videos,
            "accuracy": self.right / videos,
            "top5": self.right_in_5 / videos,
        }

    @property
    def stall_share(self) -> float:
        """Share of the time that processes waited for data."""
        return self.stalled_s / max(self.seconds, 1e-9)

    @property
    def mean_norm(self) -> float:
        """Mean L2 norm of the gradient before clipping."""
        return self.gradient_norm / max(1.0, self.norms)

    def snippets_per_s(self, segments: int, world: int) -> float:
        """Snippets per second of all `world` processes."""
        return self.videos * segments * world / max(self.seconds, 1e-9)


@dataclass
class State:
    """Progress of a run."""

    step: int = 0
    best: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    """Sums of the current epoch over the steps that have been read."""


def row_of(
    trained: Sums,
    validated: Mapping[str, float] | None,
    *,
    epoch: int,
    step: int,
    segments: int,
    world: int,
    lr: float,
    peak_memory_mb: float,
) -> dict[str, Any]:
    """Return the row of an epoch; all sums and figures are of all `world` processes together."""
    row = {
        "epoch": epoch,
        "step": step,
        "lr": lr,
        **{f"train_{name}": value for name, value in trained.means().items()},
        "seconds": trained.seconds / world,
        "stall_share": trained.stall_share,
        "snippets_per_s": trained.snippets_per_s(segments, world),
        "gradient_norm": trained.mean_norm,
        "peak_memory_mb": round(peak_memory_mb, 1),
    }
    if validated is not None:
        row |= {f"val_{name}": value for name, value in validated.items()}
    return row


def words_of(row: Mapping[str, Any], epochs: int) -> str:
    """Return the row of an epoch as a line, with the time that is left."""
    words = (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.4f}, accuracy "
        f"{row['train_accuracy']:.3f}, top-5 {row['train_top5']:.3f}"
    )
    if "val_loss" in row:
        words += (
            f"; validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.3f}, top-5 "
            f"{row['val_top5']:.3f}"
        )
    if "val_map" in row:
        words += f", mAP {row['val_map']:.3f}"
    left_s = (epochs - row["epoch"]) * row["seconds"]
    return words + (
        f"; {row['snippets_per_s']:.0f} snippets/s, waited for data "
        f"{100 * row['stall_share']:.0f} %, peak memory {row['peak_memory_mb'] / 1000:.1f} GB, "
        f"{left_s / 60:.0f} min left"
    )


def words_of_steps(
    sums: Sums, *, step: int, steps: int, count: int, segments: int, world: int, lr: float
) -> str:
    """Return the last `count` steps as a line, with the time that is left."""
    mean = sums.means()
    left_s = (steps - step) * sums.seconds / world / max(1, count)
    return (
        f"step {step} of {steps}: loss {mean['loss']:.4f}, accuracy {mean['accuracy']:.3f}, top-5 "
        f"{mean['top5']:.3f}, gradient norm {sums.mean_norm:.3g}, lr {lr:g}; "
        f"{sums.snippets_per_s(segments, world):.0f} snippets/s, waited for data "
        f"{100 * sums.stall_share:.0f} %, {left_s / 60:.0f} min left"
    )
