"""Averaged weights: the recurrence in NumPy; validation, checkpoints and tests use them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import in_process  # noqa: E402
from tiny_training import assert_same_weights, curve, job, run, weights  # noqa: E402

from flowpipe.evaluation import read_h5  # noqa: E402
from flowpipe.tsn.run_folder import BEST, EMA, LAST, read_checkpoint  # noqa: E402
from flowpipe.tsn.training.averaging import WeightAverage  # noqa: E402


def test_the_average_is_exponential_over_the_steps() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    average, expected = WeightAverage(model, 0.8), {}
    for step in range(5):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight))
            model(torch.randn(4, 3))
        average.update()
        for name, value in model.state_dict().items():
            now = value.numpy().copy()
            expected[name] = now if step == 0 else 0.8 * expected[name] + 0.2 * now
        if step == 2:  # a resumed one goes on
            saved = copy.deepcopy(average.state())
            average = WeightAverage(model, 0.8)
            average.restore(saved)
    for name, value in average.network.state_dict().items():
        if value.is_floating_point():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not any(weight.requires_grad for weight in average.network.parameters())


def test_averaged_weights_are_validated_kept_and_tested(store: Path, tmp_path: Path) -> None:
    # so slow an average that it has hardly left the first step's weights
    settings = {"schedule.ema": 0.9999}
    for name, stream in (("plain", {}), ("slow", settings)):
        run(job(store, tmp_path, name, end=12, validate_every=12, stream=stream))
    assert_same_weights(tmp_path / "plain", tmp_path / "slow")  # training does not see it
    assert not (tmp_path / "plain" / EMA).exists()
    plain, slow = (curve(tmp_path / name) for name in ("plain", "slow"))
    assert [row["train_loss"] for row in plain] == [row["train_loss"] for row in slow]
    assert float(plain[-1]["val_loss"]) < 1.0 < float(slow[-1]["val_loss"])
    averaged = weights(tmp_path / "slow", EMA)
    best, last = weights(tmp_path / "slow", BEST), weights(tmp_path / "slow", LAST)
    kept = read_checkpoint(tmp_path / "slow" / LAST)["average"]
    assert kept["steps"] == 36
    for name, value in averaged.items():
        assert torch.equal(value, best[name]) and torch.equal(value, kept["model"][name])
    assert not torch.equal(averaged["new_fc.weight"], last["new_fc.weight"])

    def score_checkpoint(checkpoint: str, run_name: str = "slow"):
        out = tmp_path / f"{run_name}-{checkpoint}.h5"
        done = in_process("test", store, tmp_path / run_name, "-o", out, "--checkpoint", checkpoint)
        return read_h5(out).values if done.returncode == 0 else done

    np.testing.assert_array_equal(score_checkpoint("ema"), score_checkpoint("best"))
    assert np.abs(score_checkpoint("last")).max() > 2 > 10 * np.abs(score_checkpoint("ema")).max()
    refused = score_checkpoint("ema", "plain")
    assert refused.returncode == 2 and "schedule.ema" in refused.stderr
