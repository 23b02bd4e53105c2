"""Optimisers and learning rates are those of torch, step by step; the default is plain SGD."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tiny_training import curve, job, run, train_and_resume  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.optim import lr_scheduler  # noqa: E402

from flowpipe.tsn.distributed import Processes  # noqa: E402
from flowpipe.tsn.network.network_input import network_input  # noqa: E402
from flowpipe.tsn.recipe import ScheduleParams  # noqa: E402
from flowpipe.tsn.run_folder import LAST, read_checkpoint  # noqa: E402
from flowpipe.tsn.training.schedule import Schedule  # noqa: E402
from flowpipe.tsn.training.train import Trainer  # noqa: E402


def torch_rates(made, steps: int) -> list[float]:
    """Learning rates of a scheduler of torch, which `made` makes for an optimiser with rate 1."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = made(optimiser), []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("unit", ["iterations", "epochs"])
@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize("policy", ["step", "cosine"])
def test_rates_are_those_of_torch(policy: str, warmup: int, unit: str) -> None:
    scale = 4 if unit == "epochs" else 1
    lr_steps = (5, 8) if policy == "step" else ()
    params = ScheduleParams(
        unit=unit, lr_policy=policy, lr_steps=lr_steps, end=10, warmup=warmup, warmup_factor=0.2
    )
    steps, first = 10 * scale, warmup * scale
    if policy == "step":
        marks = [5 * scale, 8 * scale]
        main = torch_rates(lambda sgd: lr_scheduler.MultiStepLR(sgd, marks, 0.1), steps)
    else:
        left = steps - first
        cosine = torch_rates(lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, left), left)
        main = [1.0] * first + cosine
    ramp = [1.0] * steps
    if first == 1:
        ramp[0] = 0.2
    elif first:
        last = first - 1
        ramp = torch_rates(lambda sgd: lr_scheduler.LinearLR(sgd, 0.2, total_iters=last), steps)
    schedule = Schedule(params, scale)
    found = [schedule.factor(step) for step in range(schedule.steps)]
    assert found == pytest.approx([a * b for a, b in zip(ramp, main, strict=True)], abs=1e-12)


@pytest.mark.parametrize(("modality", "first_rate"), [("rgb", 1), ("flow", 5)])
def test_the_default_is_plain_sgd(
    store: Path, tmp_path: Path, modality: str, first_rate: int
) -> None:
    """The steps of a recipe without new options, computed here from torch's functions alone."""
    wanted = job(store, tmp_path, modality=modality, backbone="tiny_bn", end=6)
    run(wanted)
    fresh = Trainer(replace(wanted, run=tmp_path / "other"), Processes(), print, lambda *_: None)
    model, params = fresh.learner.model, fresh.stream.schedule
    first, bn = model.base_model.conv, model.base_model.bn
    groups = [
        ([first.weight], first_rate, 1),
        ([first.bias], 2 * first_rate, 0),
        ([model.new_fc.weight], 1, 1),
        ([model.new_fc.bias], 2, 0),
        ([bn.weight, bn.bias], 1, 0),
    ]
    sgd = torch.optim.SGD(
        [{"params": weights, "mult": mult, "weight_decay": 5e-4 * decay}
         for weights, mult, decay in groups], lr=1, momentum=0.9,
    )  # fmt: skip
    losses = []
    for epoch in range(6):
        model.train()
        fresh.batches.epoch = epoch
        for batch in fresh.loader:
            for group in sgd.param_groups:
                group["lr"] = params.lr * group["mult"] * (0.1 if epoch >= 4 else 1)
            x = network_input(
                batch.images,
                batch.samples,
                fresh.input,
                fresh.row,
                stream=fresh.stream,
                device="cpu",
            )
            loss = functional.cross_entropy(model(x), batch.labels[:, 0])
            sgd.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(
                [w for group in sgd.param_groups for w in group["params"]], 20.0
            )
            sgd.step()
            losses.append(float(loss.detach()) * len(batch.labels))
    trained = read_checkpoint(wanted.run / LAST)["model"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-6, atol=1e-7)
    shown = [float(row["train_loss"]) for row in curve(wanted.run)]
    assert sum(shown) == pytest.approx(sum(losses) / 9, rel=1e-6)


MODERN = {
    "schedule.optimiser": "adamw", "schedule.lr": 0.01, "schedule.lr_policy": "cosine",
    "schedule.lr_steps": [], "schedule.warmup": 2, "schedule.multipliers": "uniform",
}  # fmt: skip


def test_adamw_learns_and_resumes_to_the_same_numbers(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An epoch has three steps: step 4 is inside the warm-up.
    whole, _, told = train_and_resume(store, tmp_path, 4, monkeypatch, stream=MODERN, end=20)
    assert told[0] == "resuming at step 4 of 60"
    rows = curve(whole)
    assert [float(row["lr"]) for row in rows][:3] == pytest.approx(
        [0.0046, 0.01, 0.009966], rel=1e-3
    )
    assert float(rows[-1]["train_loss"]) < 0.75 < float(rows[0]["train_loss"])


def test_runs_of_versions_without_these_options_go_on(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=1)
    run(wanted)
    facts = json.loads((wanted.run / "run.json").read_text())
    for name in ("optimiser", "lr_policy", "warmup", "multipliers"):
        del facts["stream"]["schedule"][name]
    (wanted.run / "run.json").write_text(json.dumps(facts))
    assert run(wanted)[0] == "the run is finished: 3 steps are done and none is left"
