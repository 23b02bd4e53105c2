"""The picture of a training's curves shows every epoch, curve and learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

figure = pytest.importorskip("matplotlib.figure")
pytest.importorskip("torch")

from flowpipe.tsn.training.curves import draw  # noqa: E402


def draw_run(run: Path, epochs: int, monkeypatch: pytest.MonkeyPatch, *options: bool) -> list[Any]:
    rows = [
        {
            "epoch": k, "lr": 0.1 if k < 3 else 0.01, "train_loss": 2.0 / k, "val_loss": 2.5 / k,
            "train_accuracy": 1 - 1 / (k + 1), "val_accuracy": 1 - 1 / (k + 1),
        }
        for k in range(1, epochs + 1)
    ]  # fmt: skip
    kept: list[Any] = []
    save = figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, *a, **k: (kept.append(self), save(self, *a, **k))
    )
    assert draw(run, rows, "flow 1", *options).stat().st_size
    return list(kept[0].axes)


@pytest.mark.parametrize("epochs", [1, 2, 4, 80])
def test_epochs_are_whole_numbers_and_every_curve_is_visible(
    epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for axes in draw_run(tmp_path, epochs, monkeypatch):
        assert all(tick == round(tick) for tick in axes.get_xticks())
        bottom, top = axes.get_ylim()
        for line in axes.lines[:2]:
            assert line.get_marker() != "None"  # a single epoch is a point
            assert bottom <= min(line.get_ydata()) and max(line.get_ydata()) < top


def test_the_line_of_a_lower_learning_rate_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for axes in draw_run(tmp_path, 4, monkeypatch):
        words = [text.get_text() for text in axes.get_legend().get_texts()]
        assert words == ["training", "validation", "learning rate lowered"]


def test_a_rate_that_falls_at_each_step_has_no_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for axes in draw_run(tmp_path, 4, monkeypatch, False):
        assert len(axes.lines) == 2
