"""Sums over steps -> rows of the log by epoch, and lines of the console."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from flowpipe.words import count_noun

MEASURED = 3
"""Number of figures that the device sums per batch: loss, correct top-1, correct top-5."""
_TOP = 5
"""Number of classes up to which top-5 accuracy is always 1."""


@dataclass
class EpochSums:
    """Running sums over steps, for all processes together."""

    loss: float = 0.0
    """Sum of the losses of all videos."""
    right: float = 0.0
    """Videos whose class has the highest score."""
    right_in_5: float = 0.0
    """Videos whose class is among the five highest scores."""
    videos: float = 0.0
    seconds: float = 0.0
    """Duration, summed over processes, seconds."""
    stalled_s: float = 0.0
    """Time that processes waited for data, summed, seconds."""
    gradient_norm: float = 0.0
    """Sum of the finite L2 norms of the gradient before clipping."""
    norms: float = 0.0
    """Number of norms in `gradient_norm`."""
    skipped: float = 0.0
    """Steps that fp16's loss scaler skipped because the gradient overflowed."""
    skipped_videos: float = 0.0
    """Videos of the skipped steps; their losses and hits are not in the sums."""

    def __iadd__(self, other: EpochSums) -> EpochSums:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    def without_figures(self) -> EpochSums:
        """Return the sums of a skipped step, without the losses and hits of its overflow."""
        return replace(
            self, loss=0.0, right=0.0, right_in_5=0.0, skipped=1.0, skipped_videos=self.videos
        )

    def means(self) -> dict[str, float]:
        """Return mean ``loss``, ``accuracy`` and ``top5`` per video; nan if every step skipped."""
        videos = self.videos - self.skipped_videos
        if not videos:
            return dict.fromkeys(("loss", "accuracy", "top5"), math.nan if self.skipped else 0.0)
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
        """Return the snippets per second of all processes.

        Parameters
        ----------
        segments : int
            Snippets of a video.
        world : int
            Number of processes.

        Returns
        -------
        float
            Snippets per second.
        """
        return self.videos * segments * world / max(self.seconds, 1e-9)


@dataclass
class TrainingProgress:
    """Progress of a run."""

    step: int = 0
    best: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    sums: EpochSums = field(default_factory=EpochSums)
    """Running sums of the current epoch, over the steps whose figures were read."""


def row_of(
    trained: EpochSums,
    validated: Mapping[str, float] | None,
    *,
    epoch: int,
    step: int,
    segments: int,
    world: int,
    lr: float,
    peak_memory_mb: float,
) -> dict[str, Any]:
    """Return the log row of an epoch, from figures of all processes together.

    Parameters
    ----------
    trained : EpochSums
        Sums over the training videos.
    validated : mapping or None
        Figures of the validation; None without one.
    epoch : int
        Number of the epoch, from 1.
    step : int
        Steps done.
    segments : int
        Snippets of a video.
    world : int
        Number of processes.
    lr : float
        Base learning rate of the last step.
    peak_memory_mb : float
        Most memory used so far, MB.

    Returns
    -------
    dict
        Values by column of the log.
    """
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
        "skipped_steps": round(trained.skipped),
    }
    if validated is not None:
        row |= {f"val_{name}": value for name, value in validated.items()}
    return row


def describe_epoch(row: Mapping[str, Any], epochs: int, classes: int) -> str:
    """Describe an epoch for the console, with the remaining time.

    Parameters
    ----------
    row : mapping
        Log row of the epoch.
    epochs : int
        Epochs of the schedule.
    classes : int
        Number of classes.

    Returns
    -------
    str
        One line.
    """
    trained, validated = (
        {name.removeprefix(start): value for name, value in row.items() if name.startswith(start)}
        for start in ("train_", "val_")
    )
    words = f"epoch {row['epoch']}/{epochs}: {_describe_figures(trained, classes)}"
    words += _describe_skipped(row["skipped_steps"])
    if validated:
        words += f"; validation {_describe_figures(validated, classes)}"
    left_s = (epochs - row["epoch"]) * row["seconds"]
    return words + (
        f"; {row['snippets_per_s']:.0f} snippets/s, waited for data "
        f"{100 * row['stall_share']:.0f} %, peak memory {row['peak_memory_mb'] / 1000:.1f} GB, "
        f"{left_s / 60:.0f} min left"
    )


def describe_steps(
    sums: EpochSums,
    *,
    step: int,
    steps: int,
    count: int,
    segments: int,
    world: int,
    lr: float,
    classes: int,
) -> str:
    """Describe the means of the last steps for the console, with the remaining time.

    Parameters
    ----------
    sums : EpochSums
        Sums over these steps.
    step : int
        Steps done.
    steps : int
        Steps of the schedule.
    count : int
        Number of steps in `sums`.
    segments : int
        Snippets of a video.
    world : int
        Number of processes.
    lr : float
        Base learning rate of the last step.
    classes : int
        Number of classes.

    Returns
    -------
    str
        One line.
    """
    left_s = (steps - step) * sums.seconds / world / max(1, count)
    return (
        f"step {step} of {steps}: {_describe_figures(sums.means(), classes)}, gradient norm "
        f"{sums.mean_norm:.3g}, lr {lr:g}{_describe_skipped(round(sums.skipped))}; "
        f"{sums.snippets_per_s(segments, world):.0f} snippets/s, waited for data "
        f"{100 * sums.stall_share:.0f} %, {left_s / 60:.0f} min left"
    )


def _describe_figures(figures: Mapping[str, float], classes: int) -> str:
    """Return loss and accuracy as text, with top-5 and mAP where they apply."""
    words = f"loss {figures['loss']:.4f}, accuracy {figures['accuracy']:.3f}"
    if classes > _TOP:
        words += f", top-5 {figures['top5']:.3f}"
    return words + (f", mAP {figures['map']:.3f}" if "map" in figures else "")


def _describe_skipped(steps: int) -> str:
    """Return the number of steps that fp16 skipped as text; empty if none."""
    return f", {count_noun(steps, 'step')} skipped (fp16 overflow)" if steps else ""
