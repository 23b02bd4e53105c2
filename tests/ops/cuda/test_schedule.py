"""TV-L1's schedule on a GPU, on the emulator: slots, levels in one launch, settings, graphs."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from checkout import ROOT
from emulated import emulated_ops
from synth import translated_pair

from flowpipe.errors import DeviceLostError
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver
from flowpipe.ops.cpu import native_core
from flowpipe.ops.cuda.schedule import ArenaLayout, LevelSchedule
from flowpipe.ops.cuda.settings import Settings, tiles
from flowpipe.ops.tables import FIELDS, HALO_PX

pytestmark = pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")


@pytest.fixture
def cuda():
    return emulated_ops()


def images(count, height, width):
    """Pairs that need different numbers of iterations, as float images."""
    made = [translated_pair(height, width, 0.06 * k, -0.02 * k, seed=k) for k in range(count)]
    return tuple(np.stack(frames).astype(np.float32) for frames in zip(*made, strict=True))


def state_of(cuda, count, height, width, **params):
    first, second = images(count, height, width)
    memory = cuda.tvl1_memory(count, height, width)
    return cuda.tvl1_start(first, second, None, TVL1Params(**params).model, memory)


@pytest.mark.parametrize("steps", [2, 5])
def test_a_finished_pair_leaves_its_slot_to_the_next_one(cuda, monkeypatch, steps):
    """No slot is idle while a pair waits: pairs in two slots end as early as a list allows."""
    state = state_of(cuda, 6, 66, 40)  # two tiles
    monkeypatch.setattr(Settings, "pairs_together", lambda *arguments: 2)
    cuda.settings = Settings(steps=steps)
    launched, graph = [], cuda.cupy.cuda.Graph
    launch = graph.launch
    monkeypatch.setattr(graph, "launch", lambda *a: launched.append(a) or launch(*a))
    done = np.asarray(cuda.tvl1_warps(state, 1, 60))
    assert len(set(done.tolist())) > 2, done
    ends = [0, 0]
    for taken in -(-done // HALO_PX):
        ends[ends.index(min(ends))] += int(taken)
    assert len(launched) == -(-max(ends) // steps) + 1  # one ahead of what is known


@pytest.mark.parametrize("params", [{}, {"variant": "opencv4", "strict_stop": True}])
@pytest.mark.parametrize("size", [(16, 22), (33, 61), (64, 64), (1, 9)])
def test_a_level_in_one_launch_is_that_of_steps(cuda, monkeypatch, size, params):
    """Every field and the iterations, bit for bit, for pairs that stop sooner or later."""
    launched, launch = [], type(cuda.kernels).launch
    monkeypatch.setattr(
        type(cuda.kernels), "launch", lambda *a: launched.append(a[1]) or launch(*a)
    )
    found = []
    for whole in (True, False):
        state = state_of(cuda, 3, *size, **params)
        if not whole:
            monkeypatch.setattr(LevelSchedule, "fits_one_block", lambda *arguments: False)
        done = np.asarray(cuda.tvl1_warps(state, 2, 40))
        assert ("tvl1_tile" in launched) != whole
        found.append([done, *(state.field(name) for name in FIELDS)])
    assert launched.count("tvl1_level") == 1
    for ours, meant in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, meant)


def test_a_failed_gpu_is_reported_when_fields_are_read(cuda, monkeypatch):
    state = state_of(cuda, 1, 20, 20)
    cuda.tvl1_warps(state, 1, 4)
    failing = cuda.cupy.cuda.failing
    monkeypatch.setattr(failing, "at", failing.calls + 1)
    for name in ("u", "a"):
        with pytest.raises(DeviceLostError, match="the GPU has failed"):
            state.field(name)


def test_pairs_together_fill_the_cache_and_the_multiprocessors():
    h100 = {"cache_bytes": 50 << 20, "multiprocessors": 132}
    assert Settings().pairs_together(256, 340, **h100) == 13  # 390 tiles are three waves of 132
    assert Settings(cache_share=4).pairs_together(256, 340, **h100) == 39
    assert Settings(cache_share=0, least_tiles=1).pairs_together(256, 340, **h100) == 4
    assert Settings().pairs_together(2160, 3840, **h100) == 1
    assert Settings(blocks=2).pairs_together(256, 340, **h100) == 17  # two waves of 264


@pytest.mark.parametrize("width", [1, 16, 17, 170, 340])
def test_the_cache_is_filled_with_rows_as_they_lie_in_memory(width):
    layout = ArenaLayout(1, 64, width).places
    pair_bytes = 4 * sum(layout[name].stop - layout[name].start for name in ("state", "model"))
    cache = {"cache_bytes": 100 * pair_bytes, "multiprocessors": 1}
    assert Settings(least_tiles=1).pairs_together(64, width, **cache) == 100


@pytest.mark.parametrize("size, scales", [((20, 30), 1), ((66, 40), 2), ((150, 121), 3)])
def test_a_warm_call_launches_the_graphs_that_the_model_counts(cuda, monkeypatch, size, scales):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    replay = importlib.import_module("gpu_replay")
    params = TVL1Params(scales=scales, warps=1, iterations=4, epsilon=0.0)
    solver, sizes = TVL1Solver(params, cuda), params.sizes(*size)
    gray = np.stack([translated_pair(*size, 1, 0, seed=k)[0] for k in range(3)])
    called, call = [], cuda.cupy.cuda.call
    for module in (cuda.cupy.cuda, cuda.cupy.modules.cuda):
        monkeypatch.setattr(module, "call", lambda name: called.append(name) or call(name))

    def count_launches(what):
        called.clear()
        frames = solver.prepare(gray)
        cuda.to_host(solver.solve(frames[:-1], frames[1:]))
        return sum(name.startswith(what) for name in called)

    kernels, graphs = replay.kernels_between(sizes)
    steps = 2 * sum(tiles(*level) != (1, 1) for level in sizes)  # a graph, and one ahead
    recorded = steps // 2 * cuda.settings.steps
    assert count_launches("launch ") == kernels + recorded
    count_launches("")
    count_launches("")
    assert count_launches("launch ") == 0
    assert count_launches("Graph.launch") == graphs + steps


@pytest.mark.parametrize("size", [(20, 30), (66, 40), (70, 121)])
def test_the_model_counts_the_launches_of_the_schedule(monkeypatch, size):
    """benchmarks/gpu_replay.py replays this schedule: kernels of the iterations, graphs and all."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    replay = importlib.import_module("gpu_replay")
    cuda = emulated_ops(l2CacheSize=300_000, multiProcessorCount=2)
    launched, graph = [], cuda.cupy.cuda.Graph
    launch = graph.launch
    monkeypatch.setattr(graph, "launch", lambda *a: launched.append(a) or launch(*a))
    gpu = replay.Gpu("emulator", 90, 2, 1e9, 128, 1e12, 300_000)
    model = replay.Replay(gpu, replay.Counts(*[100.0] * 6))
    state = state_of(cuda, 5, *size)
    done = np.asarray(cuda.tvl1_warps(state, 1, 60))
    cost = model.level(*size, done[:, None])
    assert cost.launches == (len(launched) * cuda.settings.steps or 1)
    assert 0 < cost.seconds < 1
