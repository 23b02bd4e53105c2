"""OpenCV's CUDA flows: on a stand-in of cv2.cuda, on the real one where there is one, and refused
in words where there is none."""

from __future__ import annotations

import dataclasses
import importlib

import cv2
import fake_cv2_cuda
import numpy as np
import pytest
from synth import translated_pair

from flowpipe import optical_flow, params
from flowpipe.errors import (
    BackendError,
    DeviceLostError,
    DeviceMemoryError,
    FlowpipeError,
    RecipeError,
)
from flowpipe.flow import FLOWS, make_solver
from flowpipe.flow.opencv_cuda import SMALLEST_PX, TRIED_SIZE, cuda_class
from flowpipe.ops import get_ops
from flowpipe.ops.cuda import devices

CLASSES = {
    "opencv_cuda_tvl1": "OpticalFlowDual_TVL1",
    "opencv_cuda_brox": "BroxOpticalFlow",
    "opencv_cuda_farneback": "FarnebackOpticalFlow",
    "opencv_cuda_nvidia": "NvidiaOpticalFlow_2_0",
}
needs_contrib = pytest.mark.skipif(not hasattr(cv2, "optflow"), reason="cv2 has no optflow")
without_cuda = pytest.mark.skipif(
    hasattr(cv2, "cuda_OpticalFlowDual_TVL1"), reason="this cv2 is built with CUDA"
)


@pytest.fixture
def fake(monkeypatch):
    fake_cv2_cuda.install(monkeypatch)
    return fake_cv2_cuda


def solver_of(name, **settings):
    return make_solver(FLOWS[name].params(**settings), get_ops("reference"))


def flow_of(solver, pair):
    return solver.solve(*(solver.prepare(frame[None]) for frame in pair))


def extract_recipe(**values):
    from flowpipe.extraction.recipe import ExtractRecipe  # it loads decoders, which flow needs not

    return params.build(ExtractRecipe, values)


def test_these_are_the_flows_that_take_a_gpu_by_themselves():
    assert list(CLASSES) == [name for name, row in FLOWS.items() if row.own_gpu]


@needs_contrib
@pytest.mark.parametrize("name", CLASSES)
def test_every_algorithm_finds_a_known_motion(name, fake):
    first, second = translated_pair(120, 160, 3, -2, seed=4)
    flow = optical_flow(first, second, flow=name)
    assert flow.shape == (120, 160, 2) and flow.dtype == np.float32
    assert np.hypot(*np.moveaxis(flow - (3, -2), 2, 0))[20:-20, 20:-20].mean() < 0.3


@needs_contrib
@pytest.mark.parametrize("name", CLASSES)
def test_a_pair_is_pure_and_an_object_has_one_size(name, fake):
    """TV-L1's object shared by two sizes would keep the small one's scales, a session refuse."""
    solver = solver_of(name)
    sizes = (120, 160), (20, 24), (120, 160), (64, 41), (20, 24), (120, 160)
    alone = {size: flow_of(solver_of(name), translated_pair(*size, 5, 4, seed=7)) for size in sizes}
    fake.created.clear()
    for size in sizes:
        flow = flow_of(solver, translated_pair(*size, 5, 4, seed=7))
        np.testing.assert_array_equal(flow, alone[size])
    assert [made for made, _ in fake.created] == [CLASSES[name]] * 3


def test_the_stand_in_shows_an_object_that_threads_share(fake):
    """What the test above rests on."""
    pair, small = (translated_pair(*size, 5, 4, seed=7) for size in ((120, 160), (20, 24)))

    def run(algorithm, images):
        return algorithm.calc(*map(fake.upload, images), None).download()

    if not hasattr(cv2, "optflow"):
        pytest.skip("cv2 has no optflow")
    fresh, shared = (fake.OpticalFlowDual_TVL1.create() for _ in range(2))
    run(shared, small)
    assert np.abs(run(fresh, pair) - run(shared, pair)).max() > 0.1


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (15, 300), (16, 16), (17, 31)])
def test_images_below_the_smallest_size_have_zero_flow(name, size, fake, rng):
    if name == "opencv_cuda_tvl1" and not hasattr(cv2, "optflow"):
        pytest.skip("cv2 has no optflow")
    pair = rng.integers(0, 256, (2, *size), dtype=np.uint8)
    flow = flow_of(solver_of(name), pair)
    assert flow.shape == (1, 2, *size) and np.isfinite(flow).all()
    assert flow.any() == (min(size) >= SMALLEST_PX)


@pytest.mark.parametrize("grid", [1, 2, 4])
@pytest.mark.parametrize("size", [(64, 80), (61, 83)])
def test_blocks_of_nvidia_become_pixels(grid, size, fake):
    """A vector stands for its block, is in pixels at any grid, and blocks end at the border."""
    height, width = size
    flow = flow_of(solver_of("opencv_cuda_nvidia", grid=grid), translated_pair(*size, 3, -2, 4))[0]
    assert flow.shape == (2, height, width)
    for i in range(grid):
        for j in range(grid):
            part = flow[:, i::grid, j::grid]
            blocks = flow[:, ::grid, ::grid][:, : part.shape[1], : part.shape[2]]
            np.testing.assert_array_equal(part, blocks)
    inner = flow[:, 16:-16, 16:-16]
    assert np.hypot(inner[0] - 3, inner[1] + 2).mean() < 0.3
    assert fake.created[-1][1][2] == grid


def test_opencv_gets_the_settings_of_the_recipe(fake):
    size, (width, height) = TRIED_SIZE, TRIED_SIZE
    solver_of("opencv_cuda_tvl1", lambda_=0.2, scales=4, iterations=7)
    solver_of("opencv_cuda_brox", outer_iterations=9)
    solver_of("opencv_cuda_farneback", window=11, gaussian=True)
    solver_of("opencv_cuda_nvidia", preset="fast", grid=4)
    assert fake.created == [
        ("OpticalFlowDual_TVL1", (0.25, 0.2, 0.3, 4, 5, 0.01, 7, 0.8, 0.0, False)),
        ("BroxOpticalFlow", (0.197, 50.0, 0.8, 10, 9, 10)),
        ("FarnebackOpticalFlow",
         (5, 0.5, False, 11, 10, 5, 1.1, cv2.OPTFLOW_FARNEBACK_GAUSSIAN)),
        ("NvidiaOpticalFlow_2_0", ((width, height), 20, 4, 1, False, False, False, 0)),
    ]  # fmt: skip
    flow_of(solver_of("opencv_cuda_nvidia"), np.zeros((2, height, width), np.uint8))
    assert [made[0] for _, made in fake.created[4:]] == [size]  # the trial was kept


@without_cuda
@pytest.mark.parametrize("name", CLASSES)
def test_a_cv2_without_cuda_is_refused_with_a_remedy(name):
    words = rf"has no cuda.{CLASSES[name]}: it needs an OpenCV built with CUDA.*opencv-cuda.md"
    with pytest.raises(BackendError, match=words):
        solver_of(name)
    with pytest.raises(BackendError, match=words):
        optical_flow(*np.zeros((2, 20, 20), np.uint8), flow=name)


@pytest.mark.parametrize("devices", [0, -1])  # none, and a driver that is missing or too old
def test_a_cv2_with_cuda_but_no_gpu_is_refused(devices, monkeypatch):
    fake_cv2_cuda.install(monkeypatch, devices)
    with pytest.raises(BackendError, match="finds no CUDA device for .*CUDA_VISIBLE_DEVICES"):
        solver_of("opencv_cuda_brox")


def test_a_cuda_build_may_lack_a_class(fake, monkeypatch):
    monkeypatch.delattr(cv2, "cuda_BroxOpticalFlow")
    with pytest.raises(BackendError, match="no cuda.BroxOpticalFlow.*CUDA and contrib"):
        solver_of("opencv_cuda_brox")


def test_an_error_of_opencv_is_reported_when_the_solver_is_made(fake, monkeypatch):
    """As it does where NVIDIA's headers were not there when it was built."""

    def create(*arguments):
        raise cv2.error("OpenCV was build without\n  NVIDIA OpticalFlow support")

    monkeypatch.setattr(fake.NvidiaOpticalFlow_2_0, "create", create)
    with pytest.raises(BackendError, match=r"cv2 [\d.]+ .*340x256.*build without NVIDIA OpticalFl"):
        solver_of("opencv_cuda_nvidia")


def test_an_error_of_opencv_at_a_pair_is_reported_with_its_size(fake, monkeypatch):
    """And costs its video, not the run, as a BackendError would."""
    solver = solver_of("opencv_cuda_brox")

    def calc(self, *arguments):
        raise cv2.error("no kernel image is available for execution on the device")

    monkeypatch.setattr(fake.BroxOpticalFlow, "calc", calc)
    with pytest.raises(FlowpipeError, match=r"opencv_cuda_brox .*40x30.*no kernel image") as told:
        flow_of(solver, np.zeros((2, 30, 40), np.uint8))
    assert told.value.reason == "backend" and not isinstance(told.value, BackendError)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("(-217:Gpu API call) out of memory in function 'allocate'", DeviceMemoryError),
        ("(-217:Gpu API call) an illegal memory access was encountered", DeviceLostError),
    ],
)
def test_an_error_of_cuda_is_no_fault_of_a_video(said, kind, fake, monkeypatch):
    solver = solver_of("opencv_cuda_brox")

    def calc(self, *arguments):
        error = cv2.error(f"OpenCV(4.14.0) gpumat.cu:116: error: {said}")
        error.code = cv2.Error.GpuApiCallError
        raise error

    monkeypatch.setattr(fake.BroxOpticalFlow, "calc", calc)
    with pytest.raises(kind, match="opencv_cuda_brox .*40x30.*Gpu API call"):
        flow_of(solver, np.zeros((2, 30, 40), np.uint8))


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("opencv_cuda_tvl1", {"scale_step": 1.0}, r"scale_step must be in \[0.5, 1\)"),
        ("opencv_cuda_tvl1", {"tau": float("nan")}, "tau must be in"),
        ("opencv_cuda_tvl1", {"epsilon": -1.0}, "epsilon must be in"),
        ("opencv_cuda_tvl1", {"iterations": 0}, "iterations must be in"),
        ("opencv_cuda_brox", {"alpha": 0.0}, "alpha must be in"),
        ("opencv_cuda_brox", {"gamma": float("nan")}, "gamma must be in"),
        ("opencv_cuda_brox", {"scale_step": 0.1}, "scale_step must be in"),
        ("opencv_cuda_brox", {"solver_iterations": 0}, "solver_iterations must be in"),
        ("opencv_cuda_farneback", {"window": 12}, "window must be odd, got 12"),
        ("opencv_cuda_farneback", {"window": 203}, r"window must be in \[1, 201\]"),
        ("opencv_cuda_farneback", {"poly_n": 6}, "poly_n must be 5 or 7"),
        ("opencv_cuda_farneback", {"poly_sigma": 0.0}, "poly_sigma must be in"),
        ("opencv_cuda_farneback", {"pyramid_scale": 1.0}, "pyramid_scale must be in"),
        ("opencv_cuda_farneback", {"fast_pyramids": True, "pyramid_scale": 0.7}, "must be 0.5"),
        ("opencv_cuda_nvidia", {"grid": 3}, "grid must be one of 1, 2, 4, got 3"),
        (
            "opencv_cuda_nvidia",
            {"preset": "best"},
            "preset 'best' is unknown; known: slow, medium, fast",
        ),
    ],
)
def test_impossible_settings_are_refused(name, settings, words):
    with pytest.raises(RecipeError, match=words):
        extract_recipe(flow={"name": name, **settings})


@pytest.mark.parametrize("name", CLASSES)
def test_recipes_accept_these_flows(name):
    made = extract_recipe(flow=name)
    assert made.flow == FLOWS[name].params() and dataclasses.is_dataclass(made.flow)
    again = extract_recipe(**params.plain(made))
    assert again == made and params.digest(again) == params.digest(made)
    assert params.digest(made) != params.digest(extract_recipe(flow="dis"))


def test_a_store_will_say_that_a_gpu_computed_it_and_which(monkeypatch):
    module = importlib.import_module("flowpipe.flow.opencv_cuda")
    monkeypatch.setattr(module, "first_gpu_name", lambda: "NVIDIA H100")
    ops = get_ops("reference")
    said = {name: row.ran_on(ops) for name, row in FLOWS.items()}
    assert said["tvl1"] == "reference" and said["dis"] == f"cv2 {cv2.__version__}"
    assert {said[name] for name in CLASSES} == {f"cv2.cuda {cv2.__version__} on NVIDIA H100"}


def test_a_gpu_has_its_name_from_the_driver(monkeypatch):
    class FakeDriver:
        def cuInit(self, flags):
            return 0

        def cuDeviceGet(self, device, number):
            return 0

        def cuDeviceGetName(self, name, length, device):
            assert length == 256
            name.value = b"NVIDIA H100"
            return 0

    class Broken(FakeDriver):
        def cuInit(self, flags):
            return 100

    for driver, name in ((FakeDriver, "NVIDIA H100"), (Broken, "")):
        monkeypatch.setattr(devices.ctypes, "CDLL", lambda path, driver=driver: driver())
        assert devices.first_gpu_name() == name
    monkeypatch.undo()


@pytest.mark.cuda
@pytest.mark.parametrize("name", CLASSES)
def test_the_real_cv2_cuda_finds_motion_and_keeps_no_state(name):
    try:
        cuda_class(CLASSES[name])
        solver = solver_of(name)
    except BackendError as error:
        pytest.skip(str(error))
    # Of the small size TV-L1 makes fewer scales, too few for the motion of the large one.
    small = (64, 48) if name == "opencv_cuda_nvidia" else (20, 24)
    for size in ((256, 340), small, (256, 340), small):
        pair = translated_pair(*size, 6, -4, seed=7)
        flow = flow_of(solver, pair)
        assert np.isfinite(flow).all()
        # Sums on a GPU need not run in one order, so the last bits may differ.
        assert np.abs(flow - flow_of(solver_of(name), pair)).mean() < 0.01
        if size != small:
            inner = flow[0][:, 20:-20, 20:-20]
            assert np.median(np.hypot(inner[0] - 6, inner[1] + 4)) < 0.5
    for size in ((1, 1), (1, 40), (15, 300)):
        assert not flow_of(solver, np.zeros((2, *size), np.uint8)).any()
