"""What computes a run where it was not asked for: the faster of what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowpipe.errors import BackendError
from flowpipe.extract_recipe import ExtractRecipe
from flowpipe.recipe import build
from flowpipe.run import choice
from flowpipe.run.options import RunOptions
from flowpipe.run.plan import Rates, Sample, make_plan
from flowpipe.types import Span, VideoRecord

SAMPLE = Sample(1e-4, 256, 340)
STAGES = {"decode": 1e-3, "compute": 1e-3, "camera": 2e-3, "encode": 1e-3}
ON_GPU = Rates(5e-3, 1000, 1e-3, gpu_workers=8, stages_s=STAGES)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Makes a machine of 8 cores on which flow was measured to take so long, in seconds."""

    def make(cpu_s: float | None, gpu_s: float) -> None:
        def measure(recipe, device, sample):
            if cpu_s is None:
                raise BackendError("no core")
            return Rates(5e-3 + cpu_s, 1000, stages_s={**STAGES, "compute": 1e-3 + cpu_s})

        def apart(recipe, device, sample, *, memory):
            return Rates(5e-3, 1000, gpu_s, 8, stages_s=STAGES)

        monkeypatch.setattr(choice.rates, "measure", measure)
        monkeypatch.setattr(choice.rates, "measure_apart", apart)
        monkeypatch.setattr(choice, "usable_cores", lambda: 8)

    return make


def chosen(flow: str = "tvl1", decoder: str = "cpu", **options):
    values = {"flow": flow, "video": {"decoder": decoder}}
    recipe = build(ExtractRecipe, values, where="extract")
    given = {"device": "cuda", "gpus": 1, "workers": 0, "any_device": True, **options}
    return choice.choose_rates(recipe, SAMPLE, RunOptions(Path("store"), **given))


@pytest.mark.parametrize(
    "cpu_s, gpu_s, device",
    [
        (15e-3, 1e-3, "cuda"),  # 1000 frames/s on the GPU, 400 on the cores
        (15e-3, 2.4e-3, "cuda"),
        (15e-3, 2.6e-3, "cpu"),
        (1e-3, 1e-3, "cpu"),  # the GPU is not the slower part, but the cores have it done by then
        (None, 1.0, "cuda"),  # the cores cannot
    ],
)
def test_the_faster_one_is_taken(cpu_s, gpu_s, device, machine):
    machine(cpu_s, gpu_s)
    found = chosen()
    if cpu_s == 1e-3:
        assert found.frames_per_s == max(1000, 8 / 6e-3)
    assert found.device == device
    assert (found.gpus, found.workers) == ((1, 8) if device == "cuda" else (0, 8))
    if cpu_s is not None:
        assert "with 1 GPU" in found.words and "on the cores alone" in found.words


def test_workers_that_are_few_keep_their_stages_beside_each_other(machine):
    """One worker with a GPU has a thread for each stage: the slowest of them counts, not all."""
    machine(15e-3, 1e-3)
    assert chosen(workers=1).frames_per_s == pytest.approx(1 / 2e-3)


def test_what_is_asked_for_is_not_replaced(machine):
    machine(1e-3, 1.0)
    assert chosen(any_device=False).device == "cuda"
    assert chosen(device="cpu", gpus=0, workers=3).device == "cpu"


def test_gpus_go_on_decoding_where_the_cores_compute(machine):
    machine(1e-3, 1.0)
    found = chosen(decoder="nvdec", gpus=3)
    assert (found.device, found.gpus, found.workers) == ("cpu", 3, 6)


@pytest.mark.parametrize(
    "workers, gpus, gpu_s, core, gpu",
    [
        (1, 1, 1e-3, 0.5, 0.0),  # 5 ms of one core, 1 ms of a GPU
        (4, 1, 10e-3, 0.0, 0.5),
        (9, 1, 5e-3 / 9, 0.0, 0.0),  # both are needed at once
        (3, 0, 0.0, 0.25, 0.0),
    ],
)
def test_one_more_core_or_gpu_gives_what_the_other_does_not_hold_back(
    workers, gpus, gpu_s, core, gpu
):
    from dataclasses import replace

    spans = [(Span(VideoRecord(str(k), str(k))), 1_000_000) for k in range(1000)]
    rates = Rates(5e-3, 1000, gpu_s, stages_s=STAGES)
    plan = replace(make_plan(spans, (), SAMPLE, rates, workers=workers), gpus=gpus)
    assert plan.saved_share(more_cores=1) == pytest.approx(core)
    assert plan.saved_share(more_gpus=1) == pytest.approx(gpu, abs=1e-9)
    assert sum(plan.stages_s.values()) == pytest.approx(plan.cost_s - plan.gpu_s)
