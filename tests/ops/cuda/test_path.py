"""The CUDA backend as a whole, on the emulator: batches, threads, memory, errors, real frames."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, python_path
from command import draw_noise_clip
from emulated import STAND_IN, emulated_ops, only_new_garbage
from synth import translated_pair
from videofile import encode_video

from flowpipe.datasets import demo
from flowpipe.datasets.demo.clipfile import write_clip
from flowpipe.errors import DeviceLostError, DeviceMemoryError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import Extraction
from flowpipe.extraction.windows import frames_per_window
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params, TVL1Solver
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.ops.cuda.schedule import ArenaLayout
from flowpipe.ops.waits import WaitTimes
from flowpipe.params import build
from flowpipe.types import Span, VideoRecord

pytestmark = pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")


@pytest.fixture
def cuda():
    with only_new_garbage():
        yield emulated_ops()


def pairs(count, height=45, width=70):
    """Pairs that need different numbers of iterations, one of them none."""
    made = [translated_pair(height, width, 0.4 * k, -0.3 * k, seed=k) for k in range(count)]
    return tuple(np.stack(frames).astype(np.uint8) for frames in zip(*made, strict=True))


BRIEF = {"warps": 1, "iterations": 8}
"""Enough where memory is what matters."""


def solve(ops, first, second, **params):
    solver = TVL1Solver(TVL1Params(**params), ops)
    return ops.to_host(solver.solve(solver.prepare(first), solver.prepare(second)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_flow_is_that_of_the_cpu(cuda, variant):
    first, second = pairs(3)
    ours, cpu = (solve(ops, first, second, variant=variant, warps=2) for ops in (cuda, get_ops()))
    bytes_of = [
        np.asarray(ops.quantise(flow, 20)[0]).astype(int)
        for ops, flow in ((cuda, ours), (get_ops(), cpu))
    ]
    assert (np.abs(bytes_of[0] - bytes_of[1]) > 1).mean() <= 1e-3
    assert np.abs(ours - cpu).mean() < 1e-3


def test_the_flow_of_a_pair_does_not_depend_on_its_batch(cuda):
    """In groups or together, first or last, beside pairs that stop sooner or later."""
    first, second = pairs(5)
    together = solve(cuda, first, second, warps=2)
    cuda = emulated_ops(l2CacheSize=0, multiProcessorCount=1)  # groups of one or two pairs
    np.testing.assert_array_equal(solve(cuda, first, second, warps=2), together)
    cuda.pairs_at_once = lambda height, width: 2
    np.testing.assert_array_equal(solve(cuda, first[::-1], second[::-1], warps=2)[::-1], together)
    for k in range(5):
        np.testing.assert_array_equal(
            solve(cuda, first[k : k + 1], second[k : k + 1], warps=2)[0], together[k]
        )


def test_bytes_do_not_depend_on_the_order_of_execution(cuda):
    """Blocks, warps and lanes run in another order with each seed: a race would show."""
    first, second = pairs(2, 66, 121)
    function = type(cuda.kernels.function("tvl1_tile"))
    flows = []
    for seed in range(1, 5):
        function.seed = seed
        flows.append(solve(cuda, first, second, variant="opencv4", warps=1))
    function.seed = 1
    for flow in flows[1:]:
        np.testing.assert_array_equal(flow, flows[0])


def test_threads_of_one_video_leave_stream_and_memory_to_those_of_the_next(cuda):
    first, second = pairs(2)
    flows, streams, arenas = [], [], []

    def video():
        flows.append(solve(cuda, first, second, warps=2))
        with cuda.batch_launches():
            streams.append(cuda.cupy.cuda.current_stream())
        arenas.append(cuda.tvl1_memory(len(first), *first.shape[1:]))

    for together in (1, 2, 1):
        threads = [threading.Thread(target=video) for _ in range(together)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(streams)) <= 2 and len(set(arenas)) <= 2
    for flow in flows[1:]:
        np.testing.assert_array_equal(flow, flows[0])


def test_another_thread_fetches_arrays_while_their_maker_goes_on(cuda):
    first, second = pairs(3)
    made = cuda.quantise(solve(cuda, first, second, warps=2), 20)
    meant = [np.asarray(part) for part in made]
    frames = np.random.default_rng(1).integers(0, 256, (6, 20, 30, 3), np.uint8)
    found = []

    def fetch():
        found.extend(map(cuda.to_host, made))
        found.append(cuda.to_host(changes))

    changes, _ = cuda.difference(cuda.to_device(frames))  # nobody has waited for it yet
    thread = threading.Thread(target=fetch)
    thread.start()
    after = cuda.to_host(cuda.gray(frames))
    thread.join()
    for ours, wanted in zip(found, [*meant, get_ops().difference(frames)[0]], strict=True):
        np.testing.assert_array_equal(ours, wanted)
    np.testing.assert_array_equal(after, get_ops().gray(frames))


def test_the_wait_for_a_gpu_is_counted_to_no_stage(cuda, monkeypatch, tmp_path):
    """It is counted once, whichever threads wait; what they compute beside it is their own."""
    pause_s, synchronize = 0.05, cuda.cupy.cuda.Event.synchronize

    def pause(event):
        time.sleep(pause_s)
        synchronize(event)

    monkeypatch.setattr(cuda.cupy.cuda.Event, "synchronize", pause)
    clip = encode_video(tmp_path / "clip.mp4", draw_noise_clip(1, frames=12))
    how = {"flow": {"name": "tvl1", **BRIEF}, "size": {"width": 40, "height": 33}}
    recipe = build(ExtractRecipe, {"modalities": ["rgb", "flow"], **how})
    began, before = time.monotonic(), cuda.waits.any_thread_s
    extraction = Extraction(Span(VideoRecord("clip", str(clip))), recipe, cuda)
    assert sum(1 for _ in extraction) == 1
    lasted_s = time.monotonic() - began
    waits_s = extraction.busy_s.pop("gpu")
    assert waits_s == cuda.waits.any_thread_s - before and 3 * pause_s <= waits_s <= lasted_s
    assert max(extraction.busy_s.values()) + waits_s <= lasted_s
    assert min(extraction.busy_s.values()) > -1e-3


def test_threads_that_wait_side_by_side_wait_once():
    waits, both = WaitTimes(), threading.Barrier(2)
    found = []

    def wait():
        with waits.measure_wait():
            both.wait(20)
            time.sleep(0.05)
        found.append(waits.this_thread_s)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.05 <= waits.any_thread_s < sum(found) and waits.this_thread_s == 0


def test_too_little_memory_halves_the_batch_and_says_so(cuda, monkeypatch):
    first, second = pairs(8, 33, 40)
    meant, cuda = solve(cuda, first, second, **BRIEF), emulated_ops()
    memory, asked = type(cuda).tvl1_memory, []

    def small(ops, n, height, width):
        asked.append(n)
        # Room for two pairs beside what is there: the stand-in's own allocator refuses more.
        cupy_memory = ops.cupy.cuda.memory
        room = 4 * ArenaLayout(2, height, width).floats + 200_000
        monkeypatch.setattr(cupy_memory, "total", cupy_memory.held() + room)
        return memory(ops, n, height, width)

    monkeypatch.setattr(type(cuda), "tvl1_memory", small)
    monkeypatch.setattr(type(cuda), "pairs_at_once", lambda ops, height, width: 8)
    with pytest.warns(RuntimeWarning) as said:
        np.testing.assert_array_equal(solve(cuda, first, second, **BRIEF), meant)
    assert ["8 pairs of 40x33 at once; continuing with 4" in str(said[0].message), len(said)] == [
        True,
        2,
    ]
    assert "4 pairs of 40x33 at once; continuing with 2" in str(said[1].message)
    assert asked[:3] == [8, 4, 2] and set(asked[3:]) == {2}


def test_too_little_memory_for_a_single_pair_is_an_error(cuda, monkeypatch):
    first, second = pairs(1)
    solver = TVL1Solver(TVL1Params(), cuda)
    prepared = solver.prepare(first), solver.prepare(second)
    monkeypatch.setattr(cuda.cupy.cuda.memory, "total", cuda.cupy.cuda.memory.held() + 100_000)
    with pytest.raises(DeviceMemoryError, match="too little free memory .*Out of memory"):
        solver.solve(*prepared)


def test_half_as_many_pairs_get_memory_of_their_own_size(cuda, monkeypatch):
    """What is short may be memory for something else: then TV-L1's own has to become smaller."""
    first, second = pairs(8, 33, 40)
    meant, cuda = solve(cuda, first, second, **BRIEF), emulated_ops()
    memory = cuda.cupy.cuda.memory
    solver = TVL1Solver(TVL1Params(**BRIEF), cuda)
    prepared = solver.prepare(first), solver.prepare(second)
    flow = 4 * 2 * first.size
    room = 4 * ArenaLayout(8, *first.shape[1:]).floats + flow + flow // 8
    monkeypatch.setattr(memory, "total", memory.held() + room)
    monkeypatch.setattr(type(cuda), "pairs_at_once", lambda ops, height, width: 8)
    with pytest.warns(RuntimeWarning, match="8 pairs of 40x33 at once; continuing with 4"):
        flow = cuda.to_host(solver.solve(*prepared))
    np.testing.assert_array_equal(flow, meant)
    assert cuda.tvl1_memory(1, *first.shape[1:]).capacity == 4


def test_errors_of_cuda_are_explained(cuda, monkeypatch):
    runtime, frames = cuda.cupy.cuda.runtime, np.zeros((2, 8, 8, 3), np.uint8)

    def refuse(status):
        def call(*arguments, **named):
            raise runtime.CUDARuntimeError(status)

        return call

    with monkeypatch.context() as patch:  # pinned memory is the host's, and can run short too
        patch.setattr(cuda.cupy.cuda, "alloc_pinned_memory", refuse(2))
        with pytest.raises(DeviceMemoryError, match="too little free memory"):
            cuda.gray(frames)
    planes, _ = cuda.difference(frames)
    monkeypatch.setattr(cuda.cupy.cuda.Event, "synchronize", refuse(700))
    with pytest.raises(DeviceLostError, match="the GPU has failed .*nvidia-smi"):
        np.asarray(planes)


def test_pairs_at_once_follow_the_free_memory(cuda, monkeypatch):
    memory = cuda.cupy.cuda.memory
    assert cuda.pairs_at_once(45, 70) == 64
    room = 10 * 4 * ArenaLayout(1, 256, 340).floats
    monkeypatch.setattr(memory, "total", memory.held() + room)
    assert cuda.pairs_at_once(256, 340) == 6  # a share is for the rest
    assert cuda.pairs_at_once(2160, 3840) == 1


@pytest.mark.parametrize(
    "gpu_bytes, full_hd, ultra_hd", [(16 << 30, 16, 4), (4 << 30, 10, 2), (1 << 30, 5, 1)]
)
def test_windows_of_large_frames_are_those_of_the_free_memory(
    gpu_bytes, full_hd, ultra_hd, monkeypatch
):
    """The CPU takes 5 frames of 1080p and one of 4K, a GPU with memory for them a batch."""
    monkeypatch.setenv("CUDA_STAND_IN_BYTES", str(gpu_bytes))
    gpu, cpu = emulated_ops(), get_ops()
    for ops, wanted in ((gpu, (full_hd, ultra_hd)), (cpu, (5, 1))):
        sizes = 3 * 1080 * 1920, 3 * 2160 * 3840
        found = [frames_per_window(ops.window_frames, ops.window_bytes, size) for size in sizes]
        assert tuple(found) == wanted, ops.name
    assert frames_per_window(gpu.window_frames, gpu.window_bytes, 3 * 256 * 340) == 64


def planes_of(record, recipe, ops):
    """Stored images of a video, decoded, by modality, and their columns."""
    windows = list(Extraction(Span(record), recipe, ops))
    found = {}
    for modality in recipe.modalities:
        streams = [e for w in windows for e in w.encoded if e.modality == modality]
        images = b"".join(payload for e in streams for payload in e.payloads)
        columns = {
            name: np.concatenate([np.asarray(e.columns[name]) for e in streams])
            for name in streams[0].columns
        }
        found[modality] = np.frombuffer(images, np.uint8), columns
    return found


@pytest.fixture(scope="module")
def demo_clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "bounce_01.mp4"
    write_clip(path, demo.clean_frames("bounce_01"))
    return path


@pytest.fixture(params=["demo", "real"])
def clip(request):
    """(path, frames per second that make four frames of it)"""
    if request.param == "demo":
        return request.getfixturevalue("demo_clip"), 2.5
    folder = request.getfixturevalue("shared_data") / "clips" / "ucf101"
    return sorted(folder.rglob("*.avi"))[0], 0.6


MODALITIES = ["rgb", "flow", "warped_flow", "rgb_diff"]


def clip_recipe(fps, **flow):
    values = {
        "modalities": MODALITIES,
        "size": {"width": 80, "height": 60},
        "video": {"fps": fps},
        "flow": {"name": "tvl1", **flow},
        "codecs": {name: {"name": "raw"} for name in MODALITIES},
    }
    return build(ExtractRecipe, values, where="extract")


def test_extraction_of_a_clip_is_that_of_the_cpu(cuda, clip):
    """All modalities, from the file to encoded images, window by window."""
    path, fps = clip
    recipe, record = clip_recipe(fps, warps=2, iterations=30), VideoRecord("clip", str(path))
    cuda.window_frames = 3
    ours, cpu = (planes_of(record, recipe, ops) for ops in (cuda, get_ops()))
    assert ours["rgb"][0].size // (80 * 60 * 3) == 4  # so there were two windows
    for modality in MODALITIES:
        (a, columns), (b, meant) = ours[modality], cpu[modality]
        assert a.size == b.size and a.size > 0
        assert (np.abs(a.astype(int) - b) > 1).mean() <= 1e-3, modality
        for name in meant:
            if name != "homography":
                assert columns[name].shape == meant[name].shape
    for modality in ("rgb", "rgb_diff"):  # no float is involved
        np.testing.assert_array_equal(ours[modality][0], cpu[modality][0])


@pytest.mark.parametrize("late_s", [0, 0.3], ids=["features at once", "features after the flow"])
def test_a_window_too_large_for_the_memory_is_made_in_halves(late_s, cuda, demo_clip, monkeypatch):
    """Not only TV-L1 needs memory: gray images, pyramids and flow of all frames of a window do.

    Features that are found after the flow need memory that TV-L1 keeps for the next window.
    """
    corners = cuda.features.corners
    monkeypatch.setattr(cuda.features, "corners", lambda *a: time.sleep(late_s) or corners(*a))
    recipe, record = clip_recipe(fps=6.25, **BRIEF), VideoRecord("clip", str(demo_clip))
    meant = planes_of(record, recipe, get_ops())
    memory = cuda.cupy.cuda.memory
    monkeypatch.setattr(memory, "total", memory.held() + 1_500_000)
    with pytest.warns(RuntimeWarning) as said:
        found = planes_of(record, recipe, cuda)
    assert any("for 10 frames at once; continuing with 5" in str(word.message) for word in said)
    for modality in MODALITIES:
        a, b = (planes[modality][0].astype(int) for planes in (found, meant))
        assert a.size == b.size and (np.abs(a - b) > 1).mean() <= 1e-3, modality


SANITIZED = """
import numpy as np
from emulated import emulated_ops
from synth import translated_pair
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver
from flowpipe.surfaces import RgbConversion, Surfaces
ops = emulated_ops()
for height, width in ((1, 1), (1, 40), (37, 1), (17, 31), (64, 64), (66, 121)):
    frames = np.random.default_rng(1).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    gray = ops.gray(ops.to_device(ops.resize(frames, height, width)))
    ops.to_host(ops.resize(frames, 20, 33))
    for variant in ("opencv2", "opencv5_cpu"):
        solver = TVL1Solver(TVL1Params(variant=variant, warps=2, iterations=9), ops)
        frame = solver.prepare(gray)
        flow = solver.solve(frame[:-1], frame[1:])
        np.asarray(ops.quantise(flow, 20)[0])
    np.asarray(ops.difference(frames)[0])
    ops.to_host(ops.warp_homography(gray, np.stack([np.eye(3)] * 3), gray, 0))
    ops.take(flow, np.array([[0, 2 * height * width - 1]]))
    tables = []
    for side in (width, height):
        near = np.arange(side) // 2
        tables.append(np.stack([near, near, near * 0 + 4096, near * 0], 1).astype(np.int32))
    for bits in (8, 10):
        values = (height + (height + 1) // 2) * (width + width % 2)
        picture = ops.to_device(np.zeros(values * (1 if bits == 8 else 2), np.uint8))
        for turns in range(4):
            columns, rows = tables
            conversion = RgbConversion(
                height=height, width=width, bits=bits, colour=np.zeros(6, np.int32),
                columns=columns, rows=rows, quarter_turns=turns,
            )
            ops.resize(Surfaces((picture,), conversion), 20, 33)
            ops.resize(Surfaces((picture,), conversion), *conversion.upright)
    ops.features.corners(gray, 20, 0.01, 3.0, np.ones(gray.shape, np.uint8))
    ops.features.akaze(gray)
    ops.features.level_ranges(gray, np.array([[0, height * width - 1]]))
noise = np.random.default_rng(2).integers(0, 256, (3, 70, 97), dtype=np.uint8)
found = ops.features.akaze(noise, np.ones(noise.shape, np.uint8))
ops.features.match_keypoints([found[:2], found[1:]], 25.0)
print(sum(len(frame.points) for frame in found), "keypoints, clean")
"""


def test_no_kernel_reads_or_writes_outside_its_arrays():
    """Every kernel compiled with the address sanitizer, on arrays that end where they end."""
    emulated_ops()
    asan = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(asan).is_absolute():
        pytest.skip("needs g++'s address sanitizer")
    environment = {
        **os.environ,
        "LD_PRELOAD": asan,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "CUDA_STAND_IN_FLAGS": "-fsanitize=address --param=asan-stack=0 -O1 -g1",
        "PYTHONPATH": python_path(ROOT, ROOT / "tests" / "support", STAND_IN),
        "PYTHONMALLOC": "malloc",
    }
    ran = subprocess.run(
        [sys.executable, "-c", SANITIZED], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == 0 and "clean" in ran.stdout, ran.stderr[-3000:]
    assert not ran.stdout.startswith("0 ")
