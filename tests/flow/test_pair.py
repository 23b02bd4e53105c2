"""`flowpipe.optical_flow`: known motion, gray and RGB alike, every size, and what it refuses."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import typing
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import run_python
from emulated import STAND_IN, cupy_from
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from synth import translated_pair

import flowpipe
from flowpipe import optical_flow
from flowpipe.errors import BackendError
from flowpipe.flow import FLOWS, make_solver
from flowpipe.flow.flo import read_flo
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import native_core

needs_core = pytest.mark.skipif(not native_core().available, reason=native_core().reason)
VARIANTS = typing.get_args(typing.get_type_hints(TVL1Params)["variant"])
PAIRS = hnp.arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 40), st.integers(1, 40)))


def rgb(gray):
    return np.stack([gray] * 3, axis=-1)


@needs_core
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("motion", [(0.5, -0.25), (-2, 3), (6, 4)])
def test_translation_is_recovered(variant, motion):
    first, second = translated_pair(120, 160, *motion, seed=3)
    flow = optical_flow(first, second, variant)
    assert flow.shape == (120, 160, 2) and flow.dtype == np.float32 and flow.flags.c_contiguous
    error = np.hypot(*np.moveaxis(flow - np.float32(motion), 2, 0))[15:-15, 15:-15]
    assert np.median(error) < 0.05, np.median(error)


UNTRAINED = sorted(FLOWS.keys() - {"raft"})
"""Algorithms without weights; test_raft.py has the other."""


def skip_without(name):
    """Skip where this OpenCV cannot run an algorithm."""
    try:
        make_solver(FLOWS[name].params(), get_ops("reference"))
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [name for name in UNTRAINED if name != "tvl1"])
def test_every_other_algorithm_recovers_a_translation(name):
    skip_without(name)
    first, second = translated_pair(120, 160, 3, -2, seed=4)
    flow = optical_flow(first, second, flow=name)
    assert flow.shape == (120, 160, 2) and flow.dtype == np.float32 and flow.flags.c_contiguous
    assert np.hypot(*np.moveaxis(flow - (3, -2), 2, 0))[20:-20, 20:-20].mean() < 0.3


@needs_core
def test_real_pairs_come_near_their_truth(shared_data: Path) -> None:
    folders = sorted((shared_data / "flow" / "middlebury").glob("*/flow10.flo"))
    if not folders:
        pytest.skip(f"needs the Middlebury pairs: none in {shared_data}")
    for truth_path in folders:
        first, second = (
            cv2.imread(str(truth_path.with_name(name)))[..., ::-1]
            for name in ("frame10.png", "frame11.png")
        )
        truth = read_flo(truth_path)
        known = np.abs(truth).max(axis=2) < 1e9
        away = (optical_flow(first, second) - truth)[known]
        still = truth[known]
        assert np.hypot(*away.T).mean() < 0.25 * np.hypot(*still.T).mean(), truth_path


@given(pair=PAIRS)
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_gray_and_rgb_of_equal_channels_are_the_same(device, pair):
    """Of any size, mixed or not, and however they lie in memory."""
    first, second = pair
    name = "dis" if device == "cpu" else "tvl1"
    limits = {} if device == "cpu" else {"iterations": 2, "warps": 1}
    wanted = optical_flow(first, second, flow=name, device=device, **limits)
    assert wanted.shape == (*first.shape, 2) and np.isfinite(wanted).all()
    for i0, i1 in (
        (rgb(first), rgb(second)),
        (first, rgb(second)),
        (rgb(first)[..., ::-1], np.asfortranarray(second)),
    ):
        again = optical_flow(i0, i1, flow=name, device=device, **limits)
        np.testing.assert_array_equal(again, wanted)


@needs_core
@given(pair=PAIRS, variant=st.sampled_from(VARIANTS))
@settings(deadline=None, max_examples=40)
def test_the_flow_of_a_pair_is_that_of_a_store(pair, variant):
    """Any size: the same numbers as the solver of the pipeline, only laid out as (H, W, 2)."""
    first, second = pair
    before = pair.copy()
    solver = make_solver(TVL1Params(variant=variant, iterations=20), get_ops())
    wanted = solver.solve(solver.prepare(first[None]), solver.prepare(second[None]))[0]
    flow = optical_flow(first, second, variant, iterations=20)
    np.testing.assert_array_equal(flow, wanted.transpose(1, 2, 0))
    np.testing.assert_array_equal(pair, before)


@needs_core
def test_every_parameter_reaches_the_algorithm():
    first, second = translated_pair(64, 80, 3, -2, seed=5)
    usual = optical_flow(first, second)
    other = {"tau": 0.1, "lambda_": 0.5, "theta": 0.1, "scales": 1, "warps": 1, "epsilon": 0.5,
             "iterations": 3, "block": 1}  # fmt: skip
    for name, value in other.items():
        assert (optical_flow(first, second, **{name: value}) != usual).any(), name
    assert (optical_flow(first, second, "opencv4") != usual).any()
    dis = optical_flow(first, second, flow="dis", preset="ultrafast")
    assert (dis != optical_flow(first, second, flow="dis")).any()


@pytest.mark.parametrize("name", UNTRAINED)
def test_every_field_of_every_algorithm_is_a_parameter(name):
    """Its own default changes nothing, whatever fields there are."""
    skip_without(name)
    image = np.zeros((40, 48), np.uint8)
    for field in dataclasses.fields(FLOWS[name].params):
        chosen = {field.name: field.default}
        flow = optical_flow(image, image, flow=name, device="reference", **chosen)
        assert not flow.any()


def test_unknown_parameters_are_refused_with_the_known():
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(ValueError, match="tvl1 parameter 'taux' is unknown; did you mean tau"):
        optical_flow(image, image, taux=1, x=2)
    with pytest.raises(ValueError, match="dis parameter 'warps' is unknown; known: preset"):
        optical_flow(image, image, flow="dis", warps=2)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"tau": "0.25"}, "tvl1.tau must be float, got '0.25'"),
        ({"warps": 2.0}, "tvl1.warps must be int"),
        ({"warps": True}, "tvl1.warps must be int"),
        ({"tau": 0}, r"tau must be in \(0, 10\], got 0"),
        ({"variant": "opencv3"}, "variant 'opencv3' is unknown.* known: opencv2, opencv4"),
        ({"flow": "tvl2"}, f"flow 'tvl2' is unknown.* known: {', '.join(FLOWS)}"),
        ({"flow": "dis", "variant": "opencv4"}, "dis parameter 'variant' is unknown"),
        (
            {"flow": "dis", "preset": "slow"},
            "preset 'slow' is unknown; known: ultrafast, fast, medium",
        ),
    ],
)
def test_impossible_settings_are_refused(chosen, words):
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(ValueError, match=words):
        optical_flow(image, image, **chosen)


def test_an_unknown_device_is_refused():
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(
        BackendError, match="device 'abacus' is unknown; known: cpu, cuda, reference"
    ):
        optical_flow(image, image, device="abacus")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.zeros((4, 5)), None, r"first must be uint8.* got float64 \(4, 5\)"),
        (None, np.zeros((4, 5), np.uint16), "second must be uint8.* got uint16"),
        (np.zeros((4, 5, 4), np.uint8), None, r"got uint8 \(4, 5, 4\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), None, r"got uint8 \(1, 4, 5, 3\)"),
        (np.zeros(5, np.uint8), None, r"got uint8 \(5,\)"),
        (np.zeros((0, 5), np.uint8), None, "at least one pixel"),
        (np.zeros((4, 0, 3), np.uint8), None, "at least one pixel"),
        (None, np.zeros((5, 4), np.uint8), r"one size, got \(4, 5\) and \(5, 4\)"),
        (None, np.zeros((4, 6, 3), np.uint8), r"one size, got \(4, 5\) and \(4, 6\)"),
    ],
)
def test_arguments_that_are_no_pair_of_images_are_refused(first, second, words):
    good = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match=words):
        optical_flow(good if first is None else first, good if second is None else second)


def test_the_signature_shows_the_defaults():
    parameters = inspect.signature(optical_flow).parameters
    assert [parameters[name].default for name in ("variant", "flow", "device")] == [
        "opencv2", "tvl1", "cpu",
    ]  # fmt: skip


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, flowpipe\n"
        "assert 'optical_flow' in flowpipe.__all__\n"
        "assert not {'numpy', 'cv2', 'h5py'} & set(sys.modules), sys.modules\n"
        "assert callable(flowpipe.optical_flow) and 'h5py' not in sys.modules\n"
    )
    run_python(code)
    with pytest.raises(AttributeError, match="nix"):
        flowpipe.nix  # noqa: B018


@needs_core
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels")
@pytest.mark.parametrize("colour", [False, True], ids=["gray", "rgb"])
def test_on_a_gpu_a_warm_call_launches_graphs_only(monkeypatch, colour):
    """It compiles, reserves and records nothing, and launches no kernel by itself."""
    first, second = translated_pair(70, 90, 1, -1, seed=6)  # levels of one tile and of more
    if colour:
        first, second = rgb(first), rgb(second)
    small = {"warps": 2, "iterations": 8, "epsilon": 0.0, "scales": 3}
    with cupy_from(STAND_IN):
        import cupy

        wanted = optical_flow(first, second, device="cuda", **small)
        for _ in range(3):
            np.testing.assert_array_equal(
                optical_flow(first, second, device="cuda", **small), wanted
            )
        kept = cupy.cuda.memory.held()

        def refuse(*_, **__):
            raise AssertionError("a warm call must not do this")

        monkeypatch.setattr(cupy, "RawModule", refuse)
        monkeypatch.setattr(cupy.modules.Function, "__call__", refuse)
        monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", refuse)
        for one, other in ((first, second), (second, first), (first, second)):
            again = optical_flow(one, other, device="cuda", **small)
            assert np.array_equal(again, wanted) == (one is first)
            assert cupy.cuda.memory.held() == kept
    np.testing.assert_allclose(wanted, optical_flow(first, second, **small), atol=2e-2)
