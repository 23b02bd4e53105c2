"""Steps -> their figures: kept on the device, read many at once, logged by step."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowpipe.atomic import translate_write_errors, write_atomic
from flowpipe.tsn.distributed import Processes
from flowpipe.tsn.training.epoch import MEASURED, EpochSums

STEP_LOG = "steps.csv"
COLUMNS = (
    "step", "epoch", "lr", "loss", "accuracy", "top5", "gradient_norm", "seconds", "stalled_s",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A training step of this process; the device may still be computing it."""

    number: int
    """Number of the step, from 1."""
    epoch: int
    """Number of the epoch, from 1."""
    lr: float
    videos: int
    """Videos of this process."""
    _: KW_ONLY
    seconds: float
    stalled_s: float
    """Time waited for data, seconds."""
    figures: Tensor
    """Result of `Learner.step`, float64 (MEASURED + 1,) on the device."""


class UnreadSteps:
    """Steps whose figures are still on the device.

    Reading makes the CPU wait for the device, so many steps are read at once.

    Parameters
    ----------
    processes : Processes
        Processes that share a batch.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        """Add a step.

        Parameters
        ----------
        step : Step
            Step to read later.
        """
        self._steps.append(step)

    def read(self) -> list[tuple[Step, EpochSums]]:
        """Return the steps since the last call, with their sums over all processes.

        All processes must call this after the same step.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return []
        began = time.monotonic()
        figures = torch.stack([step.figures for step in steps]).tolist()
        waited_s = time.monotonic() - began  # until the device has finished the steps
        own = [
            [*line[:MEASURED], step.videos, step.seconds + waited_s / len(steps), step.stalled_s]
            for step, line in zip(steps, figures, strict=True)
        ]
        lines = zip(steps, self._processes.total_rows(own), figures, strict=True)
        return [(step, _sums(total, line[MEASURED])) for step, total, line in lines]


def _sums(total: list[float], norm: float) -> EpochSums:
    """Return the sums of one step; the gradient norm is the same in all processes."""
    finite = math.isfinite(norm)
    return EpochSums(*[*total, norm if finite else 0.0, float(finite)])


def row_of_step(step: Step, sums: EpochSums, world: int) -> dict[str, Any]:
    """Return the log row of a step.

    Parameters
    ----------
    step : Step
        The step.
    sums : EpochSums
        Its figures, of all processes.
    world : int
        Number of processes.

    Returns
    -------
    dict
        Values by column of the log; the norm of a gradient that is not finite is inf.
    """
    return {
        "step": step.number,
        "epoch": step.epoch,
        "lr": step.lr,
        **sums.means(),
        "gradient_norm": sums.gradient_norm if sums.norms else math.inf,
        "seconds": round(sums.seconds / world, 6),
        "stalled_s": round(sums.stalled_s / world, 6),
    }


class StepLog:
    """File ``steps.csv`` of a run, with a row per step.

    Parameters
    ----------
    run : Path
        Folder of the run.
    step : int
        Step from which the run resumes; later rows, which a killed run left, are removed.

    Raises
    ------
    DiskFullError, UsageError
        If the file cannot be written; `add` raises them too.
    """

    def __init__(self, run: Path, step: int) -> None:
        self._path = run / STEP_LOG
        header = ",".join(COLUMNS)
        kept = [line for line in _lines(self._path) if _is_whole(line, step)]
        write_atomic(self._path, "".join(f"{line}\n" for line in [header, *kept]).encode(), "log")

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows.

        Parameters
        ----------
        rows : iterable of dict
            Rows to append.
        """
        with translate_write_errors(self._path, "log"), self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(rows)


def _lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[1:] if path.exists() else []


def _is_whole(line: str, step: int) -> bool:
    """Return whether a line is a complete row of one of the first `step` steps."""
    values = line.split(",")
    return len(values) == len(COLUMNS) and values[0].isdecimal() and int(values[0]) <= step
