"""Rows of a training log -> TensorBoard events and a figure of the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowpipe.atomic import atomic_file
from flowpipe.errors import BackendError

PICTURE, EVENTS = "curve.png", "tensorboard"
_TAGS = {
    "train_loss": "loss/training", "val_loss": "loss/validation",
    "train_accuracy": "accuracy/training", "val_accuracy": "accuracy/validation",
    "val_map": "map/validation", "lr": "schedule/lr", "snippets_per_s": "speed/snippets_per_s",
    "stall_share": "speed/stall_share", "peak_memory_mb": "memory/peak_mb",
}  # fmt: skip
_STEP_TAGS = {
    "loss": "step/loss", "accuracy": "step/accuracy", "top5": "step/top5", "lr": "step/lr",
    "gradient_norm": "step/gradient_norm",
}  # fmt: skip


class TensorBoardWriter:
    """Writer of TensorBoard scalars by epoch and by step.

    Parameters
    ----------
    run : Path
        Folder of the run.
    step : int
        Step from which the run resumes; events of later steps are discarded.

    Raises
    ------
    BackendError
        If tensorboard is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise BackendError(
                f"--tensorboard needs tensorboard; pip install tensorboard ({error})"
            ) from error
        self._writer: Any = SummaryWriter(str(run / EVENTS), purge_step=step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Write the row of an epoch.

        Parameters
        ----------
        row : mapping
            Row of the epoch.
        """
        self._enter(row, _TAGS)
        self._writer.flush()

    def write_steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of steps.

        Parameters
        ----------
        rows : sequence of mapping
            Row of each step.
        """
        for row in rows:
            self._enter(row, _STEP_TAGS)

    def _enter(self, row: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        for name, tag in tags.items():
            if name in row:
                self._writer.add_scalar(tag, row[name], row["step"])

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()


def draw(run: Path, rows: Sequence[Mapping[str, Any]], title: str, by_steps: bool = True) -> Path:
    """Draw loss and accuracy over the epochs to ``curve.png`` in the run folder.

    Parameters
    ----------
    run : Path
        Folder of the run.
    rows : sequence of mapping
        Rows of the log, one per epoch.
    title : str
        Title of the figure.
    by_steps : bool
        Mark the epochs in which the learning rate was lowered.

    Returns
    -------
    Path
        The figure.

    Raises
    ------
    BackendError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot, which keeps figures and needs a display
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise BackendError("curve.png needs matplotlib; pip install matplotlib") from error
    figure = Figure((10, 4), layout="constrained")
    figure.suptitle(title)
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for half, name, style in (("training", "train", ".-"), ("validation", "val", "o-")):
            points = [(r["epoch"], r[f"{name}_{kind}"]) for r in rows if f"{name}_{kind}" in r]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=half, markersize=4)
        drops = [a["epoch"] for a, b in zip(rows, rows[1:], strict=False) if b["lr"] < a["lr"]]
        for k, epoch in enumerate(drops if by_steps else []):
            label = "" if k else "learning rate lowered"
            axes.axvline(epoch, color="0.8", zorder=0, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(kind)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.03, y=0.08)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[1].set_ylim(0, 1.02)
    path = run / PICTURE
    with atomic_file(path, "picture") as draft:
        figure.savefig(draft, format="png", dpi=120)
    return path
