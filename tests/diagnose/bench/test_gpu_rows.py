"""`bench flow` on a GPU, run on the emulator: flow, schedules and settings of its rows."""

from __future__ import annotations

import pytest
from emulated import emulated_ops

from flowpipe.diagnose.bench import (
    Meter,
    candidates,
    flow_candidates,
    measure_throughput,
    pairs_per_call,
    render_pairs,
    tune,
    tuning,
)
from flowpipe.errors import BackendError
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops.cpu import native_core
from flowpipe.ops.cuda.kernels import source
from flowpipe.ops.cuda.settings import Settings

pytestmark = pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")


@pytest.fixture
def pairs():
    return render_pairs(2, 40, 50)


def test_the_flow_of_a_row_is_that_of_the_cpu(pairs, monkeypatch):
    get_ops, on_gpu = candidates.get_ops, emulated_ops()
    monkeypatch.setattr(
        candidates,
        "get_ops",
        lambda device="cpu", isa=None: on_gpu if device == "cuda" else get_ops(),
    )
    by_name = {row.name: row for row in flow_candidates()}
    meter, distances = Meter(pairs, 1), []
    for name in (candidates.PEER, "flowpipe-opencv2", "flowpipe-opencv2-cuda"):
        figures = meter.measure(by_name[name])
        assert figures.clock == ("wall" if name.endswith("cuda") else "cpu")
        distances.append(figures.difference_px)
    assert distances[0] == 0
    assert distances[2] == pytest.approx(distances[1], abs=1e-3)


def test_pairs_are_repeated_for_larger_batches(pairs, monkeypatch):
    monkeypatch.setattr(pairs_per_call, "BATCHES", (1, 3))
    said = []
    found = list(measure_throughput(emulated_ops(), pairs, TVL1Params(warps=1), 1, said.append))
    assert said == [
        "counting the iterations of 2 pairs on the CPU",
        "measuring 1 pair per call", "pass 1 of at most 1",
        "measuring 3 pairs per call", "pass 1 of at most 1",
    ]  # fmt: skip
    assert [batch.pairs for batch in found] == [1, 3]
    for batch in found:
        assert batch.pairs_per_s > 0 and 0 < batch.share < 1


def test_work_is_the_sum_of_the_iterations(pairs):
    one, two = (
        pairs_per_call.pixel_iterations(TVL1Params(scales=1, warps=n, iterations=8, epsilon=0.0),
                                 pairs.first[:1], pairs.second[:1])
        for n in (1, 2)
    )  # fmt: skip
    assert (one, two) == (8 * 40 * 50, 2 * 8 * 40 * 50)


def test_every_schedule_is_measured_once_and_the_settings_are_as_before(monkeypatch):
    monkeypatch.setattr(tuning, "BATCHES", (3,))
    monkeypatch.setattr(tuning, "STEPS", (4, 8))
    ops = emulated_ops(l2CacheSize=500_000, multiProcessorCount=2)  # a cache of two pairs
    small = TVL1Params(scales=1, warps=1, iterations=8)
    compiled, compile_module = [], ops.cupy.RawModule

    def compile_and_note(code, options):
        if code == source("tvl1_tile"):
            compiled.append([o for o in options if o.startswith("-DTILE")])
        return compile_module(code=code, options=options)

    monkeypatch.setattr(ops.cupy, "RawModule", compile_and_note)
    before = ops.settings
    found = list(tune(ops, render_pairs(2, 40, 70), small, 1))
    assert found[0].settings == before == ops.settings
    schedules = [
        (choice.settings.steps, choice.settings.blocks, choice.pairs_together) for choice in found
    ]
    assert len(set(schedules)) == len(schedules)
    assert {steps for steps, _, _ in schedules} == {4, 8}
    assert {together for _, _, together in schedules} == {1, 2, 3}
    assert [blocks for _, blocks, _ in schedules].count(2) == 1
    assert compiled == [[], ["-DTILE_BLOCKS=2"]] and not ops.kernels.definitions
    assert all(choice.pairs_per_s > 0 for choice in found)
    assert len(list(tune(ops, render_pairs(2, 40, 50), small, 1))) == 1  # one tile: one schedule


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FLOWPIPE_CUDA_SETTINGS", "steps=4, cache_share=0.5")
    assert emulated_ops().settings == Settings(steps=4, cache_share=0.5)
    monkeypatch.setenv("FLOWPIPE_CUDA_SETTINGS", str(Settings(2, 4.0, 1)))
    assert emulated_ops().settings == Settings(2, 4.0, 1)
    monkeypatch.setenv("FLOWPIPE_CUDA_SETTINGS", "stepz=4")
    with pytest.raises(BackendError, match="FLOWPIPE_CUDA_SETTINGS: .* did you mean steps"):
        emulated_ops()
    wrongs = "steps=0", "steps", "steps=four", "cache_share=-1", "cache_share=inf", "blocks=3"
    for wrong in wrongs:
        monkeypatch.setenv("FLOWPIPE_CUDA_SETTINGS", wrong)
        with pytest.raises(BackendError, match="FLOWPIPE_CUDA_SETTINGS.*steps=8,cache_share=1"):
            emulated_ops()
