"""Losses are those of their formulas in NumPy, for one, several and mixed labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tiny_training import curve, job, run  # noqa: E402

from flowpipe.tsn.recipe import LossParams  # noqa: E402
from flowpipe.tsn.training.losses import hits, loss_of  # noqa: E402

LOGITS = np.random.default_rng(3).normal(0, 2, (6, 5))
LABELS = np.array([0, 1, 2, 3, 4, 0])
MIXED = np.eye(5)[LABELS] * 0.7 + np.eye(5)[LABELS[::-1]] * 0.3
SEVERAL = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0],
                    [0, 0, 0, 0, 1], [0, 1, 1, 0, 0]], float)  # fmt: skip


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_cross_entropy_is_that_of_smoothed_targets(smoothing: float, mixed: bool) -> None:
    weights = MIXED if mixed else np.eye(5)[LABELS]
    logs = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
    expected = -((weights * (1 - smoothing) + smoothing / 5) * logs).sum()
    targets = torch.tensor(MIXED if mixed else LABELS)
    found = loss_of(torch.tensor(LOGITS), targets, LossParams(label_smoothing=smoothing))
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("targets", [SEVERAL, MIXED], ids=["several", "mixed"])
def test_bce_is_summed_over_the_classes(targets: np.ndarray) -> None:
    p = 1 / (1 + np.exp(-LOGITS))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum()
    logits = torch.tensor(LOGITS, requires_grad=True)
    found = loss_of(logits, torch.tensor(targets), LossParams("bce"))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)
    found.backward()
    np.testing.assert_allclose(logits.grad, p - targets, rtol=1e-9, atol=1e-12)


def test_a_video_is_right_if_a_label_is_among_its_highest_classes() -> None:
    order = np.argsort(-LOGITS, 1)
    for k in (1, 2, 5, 9):
        logits, top = torch.tensor(LOGITS), order[:, :k]
        one = sum(LABELS[i] in top[i] for i in range(6))
        several = sum(bool(SEVERAL[i, top[i]].any()) for i in range(6))
        mixed = sum(MIXED[i, top[i]].sum() for i in range(6))
        assert int(hits(logits, torch.tensor(LABELS), k)) == one
        assert float(hits(logits, torch.tensor(SEVERAL), k)) == several
        assert float(hits(logits, torch.tensor(MIXED), k)) == pytest.approx(mixed)


def test_label_smoothing_is_trained_and_not_validated(store: Path, tmp_path: Path) -> None:
    for name, smoothing in (("plain", 0.0), ("smooth", 0.3)):
        settings = {"loss.label_smoothing": smoothing, "schedule.lr": 1e-6}
        run(job(store, tmp_path, name, end=1, stream=settings))
    plain, smooth = (curve(tmp_path / name)[0] for name in ("plain", "smooth"))
    assert float(smooth["val_loss"]) == pytest.approx(float(plain["val_loss"]), rel=1e-5)
    # the targets differ, the weights hardly
    assert float(smooth["train_loss"]) != pytest.approx(float(plain["train_loss"]), rel=1e-5)
