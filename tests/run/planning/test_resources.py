"""The device of a run without --device: the one that was measured to be faster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from flowpipe.errors import BackendError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow import features
from flowpipe.params import build
from flowpipe.run.options import RunOptions
from flowpipe.run.planning import resources
from flowpipe.run.planning.costs import Rates, Resources
from flowpipe.run.planning.plan import Plan, make_plan
from flowpipe.run.planning.sample import HeaderSample
from flowpipe.types import Span, VideoRecord

SAMPLE = HeaderSample(1e-4, 256, 340)
STAGES = {"decode": 1e-3, "compute": 1e-3, "camera": 2e-3, "encode": 1e-3}
ON_GPU = Rates(frame_s=5e-3, frame_bytes=1000, gpu_s=1e-3, gpu_workers=8, stages_s=STAGES)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Return a function that imitates a machine of 8 cores with measured seconds of flow."""

    def make(cpu_s: float | None, gpu_s: float) -> None:
        calls.clear()

        def measure(recipe, device, sample):
            calls.append(device)
            if cpu_s is None:
                raise BackendError("no core")
            return Rates(
                frame_s=5e-3 + cpu_s, frame_bytes=1000, stages_s={**STAGES, "compute": 1e-3 + cpu_s}
            )

        def apart(recipe, device, sample, *, memory):
            calls.append(device)
            return Rates(
                frame_s=5e-3, frame_bytes=1000, gpu_s=gpu_s, gpu_workers=8, stages_s=STAGES
            )

        monkeypatch.setattr(resources.rates, "measure", measure)
        monkeypatch.setattr(resources.rates, "measure_apart", apart)
        monkeypatch.setattr(resources, "usable_cores", lambda: 8)

    make.calls = calls = []
    return make


def chosen(flow: str = "tvl1", decoder: str = "cpu", modalities=("rgb", "flow"), **options):
    values = {"flow": flow, "video": {"decoder": decoder}, "modalities": list(modalities)}
    recipe = build(ExtractRecipe, values, where="extract")
    given = {"device": "cuda", "gpus": 1, "workers": 0, "any_device": True, **options}
    return resources.choose_rates(recipe, SAMPLE, RunOptions(Path("store"), **given))


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
def test_the_faster_device_is_taken(cpu_s, gpu_s, device, machine):
    machine(cpu_s, gpu_s)
    found = chosen()
    if cpu_s == 1e-3:
        assert found.frames_per_s == max(1000, 8 / 6e-3)
    assert found.device == device
    assert (found.gpus, found.workers) == ((1, 8) if device == "cuda" else (0, 8))
    if cpu_s is not None:
        assert "with 1 GPU" in found.reason and "on the cores alone" in found.reason


def test_few_workers_keep_their_stages_in_parallel(machine):
    """One worker with a GPU has a thread for each stage, so its slowest stage sets the rate."""
    machine(15e-3, 1e-3)
    assert chosen(workers=1).frames_per_s == pytest.approx(1 / 2e-3)


def test_a_requested_device_is_not_replaced(machine):
    machine(1e-3, 1.0)
    assert chosen(any_device=False).device == "cuda"
    assert chosen(device="cpu", gpus=0, workers=3).device == "cpu"


@pytest.mark.parametrize("any_device", [True, False])
def test_each_device_is_measured_once_for_a_plan(any_device, machine):
    """`auto` measures the cores beside the GPUs, and a plan says how long the cores would take."""
    machine(15e-3, 1e-3)
    found = chosen(any_device=any_device)
    plan = plan_of(replace(found, workers=8, cores=8, gpus=1, device="cuda"))
    recipe = build(ExtractRecipe, {"modalities": ["rgb", "flow"]}, where="extract")
    assert resources.cores_only_s(plan, recipe) == pytest.approx(plan.frames * 20e-3)
    assert sorted(machine.calls) == ["cpu", "cuda"]


def test_gpus_still_decode_if_the_cores_compute(machine):
    machine(1e-3, 1.0)
    found = chosen(decoder="nvdec", gpus=3)
    assert (found.device, found.gpus, found.workers) == ("cpu", 3, 6)
    assert found.reason.endswith("; NVDEC decodes on 3 GPUs")


def test_cores_without_the_detector_are_not_taken(machine, monkeypatch):
    """The kernels of the GPU include AKAZE; on the cores every video would fail without it."""
    machine(1e-3, 1.0)
    assert chosen(modalities=["warped_flow"]).device == "cpu"
    monkeypatch.setattr(features, "own_features", lambda device: device == "cuda")
    for gone in ("xfeatures2d", "AKAZE", "AKAZE_create"):
        monkeypatch.delattr(cv2, gone, raising=False)
    found = chosen(modalities=["warped_flow"])
    assert found.device == "cuda"
    plan = plan_of(replace(found, workers=8, cores=8, gpus=1, device="cuda"))
    recipe = build(ExtractRecipe, {"modalities": ["warped_flow"]}, where="extract")
    assert resources.cores_only_s(plan, recipe) == 0
    assert chosen().device == "cpu", "flow needs no detector"


def plan_of(found: Resources, videos: int = 1000) -> Plan:
    spans = [(Span(VideoRecord(str(k), str(k))), 1_000_000) for k in range(videos)]
    return replace(make_plan(spans, (), SAMPLE, found), sample=SAMPLE)


@pytest.mark.parametrize(
    "workers, cores, gpus, gpu_s, bound, core, gpu",
    [
        (1, 1, 1, 1e-3, "cores", 0.5, 0.0),  # 5 ms of one core, 1 ms of a GPU
        (4, 4, 1, 10e-3, "gpus", 0.0, 0.5),
        (9, 9, 1, 5e-3 / 9, "cores", 0.0, 0.0),  # both are needed at once
        (1, 64, 1, 1e-3, "stage", 0.5, 0.0),  # 2 ms of a thread, until there is another worker
        (3, 3, 0, 0.0, "cores", 0.25, 0.0),
        (64, 2, 0, 0.0, "cores", 1 / 3, 0.0),  # workers that have no core help nobody
    ],
)
def test_one_more_core_or_gpu_helps_as_far_as_the_other_allows(
    workers, cores, gpus, gpu_s, bound, core, gpu
):
    rates = Rates(frame_s=5e-3, frame_bytes=1000, gpu_s=gpu_s, stages_s=STAGES)
    device = "cuda" if gpus else "cpu"
    plan = plan_of(Resources(rates=rates, workers=workers, cores=cores, gpus=gpus, device=device))
    duration_s = plan.duration_s()
    assert duration_s[bound] == max(duration_s.values())
    assert plan.time_saved_share(more_cores=1) == pytest.approx(core)
    assert plan.time_saved_share(more_gpus=1) == pytest.approx(gpu, abs=1e-9)
    assert sum(plan.stages_s.values()) == pytest.approx(plan.cost_s - plan.gpu_s)


@pytest.mark.parametrize("bytes_per_s, bound", [(0, "gpus"), (99e3, "disk"), (101e3, "gpus")])
def test_a_slow_disk_bounds_the_run(bytes_per_s, bound):
    """1000 bytes a frame, and 100 frames/s by the GPU."""
    rates = Rates(frame_s=5e-3, frame_bytes=1000, gpu_s=10e-3, stages_s=STAGES)
    plan = plan_of(Resources(rates=rates, workers=4, cores=4, gpus=1, device="cuda"))
    plan = replace(plan, disk_bytes_per_s=bytes_per_s)
    duration_s = plan.duration_s()
    assert max(duration_s, key=duration_s.get) == bound
    assert (plan.time_saved_share(more_gpus=1) == 0) == (bound == "disk")


@pytest.mark.parametrize("workers", [0, 1, 2, 8, 24])
@pytest.mark.parametrize("cpu_s, gpu_s", [(15e-3, 1e-3), (1e-3, 1.0), (15e-3, 4e-3)])
def test_the_duration_of_a_plan_is_that_of_its_chosen_device(workers, cpu_s, gpu_s, machine):
    machine(cpu_s, gpu_s)
    found = chosen(workers=workers)
    plan = plan_of(found)
    assert max(plan.duration_s().values()) == pytest.approx(plan.frames / found.frames_per_s)


def test_the_stages_of_one_video_run_in_parallel_too(machine):
    machine(15e-3, 1e-3)
    found = chosen(workers=2)
    plan = plan_of(replace(found, workers=2, gpus=1, device="cuda"), 1)
    duration_s = plan.duration_s()
    assert max(duration_s, key=duration_s.get) == "longest_shard"
    assert duration_s["longest_shard"] == pytest.approx(plan.frames * STAGES["camera"])


def test_workers_of_a_scheduler_have_a_core_each(machine):
    """The cores of this machine do not limit them."""
    machine(15e-3, 1e-3)
    found = chosen(workers=64, gpus=0, scheduler="tcp://there:1", any_device=False)
    assert found.frames_per_s == pytest.approx(64 / 20e-3)
