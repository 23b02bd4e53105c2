"""get_ops, the report of the compiled core, argument checks, and properties of the quantiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flowpipe.errors import BackendError
from flowpipe.flow import make_solver
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import CpuOps, native_core

needs_core = pytest.mark.skipif(not native_core().available, reason=native_core().reason)


def without_core() -> CpuOps:
    return CpuOps(core=native_core("/nowhere/_core.so"))


EVERY = ["reference", "opencv", *native_core().usable]


def backend(name: str):
    if name == "opencv":
        return without_core()
    return get_ops("reference") if name == "reference" else get_ops("cpu", isa=name)


def test_an_unknown_device_is_refused():
    with pytest.raises(BackendError, match="cpu, cuda, reference"):
        get_ops("tpu")


@needs_core
def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(BackendError, match="baseline"):
        get_ops(isa="mmx")


@needs_core
def test_the_environment_chooses_the_instruction_set(monkeypatch):
    monkeypatch.setenv("FLOWPIPE_ISA", "baseline")
    assert get_ops().name == "cpu-baseline"
    assert native_core().chosen == "baseline"
    monkeypatch.delenv("FLOWPIPE_ISA")
    assert get_ops().name == f"cpu-{native_core().usable[-1]}"


def test_a_file_that_is_no_library_is_reported(tmp_path):
    path = tmp_path / "_core.so"
    path.write_bytes(b"not a library")
    core = native_core(str(path))
    assert not core.available and "cannot be loaded" in core.reason


def test_without_the_core_tvl1_is_refused_with_advice():
    ops = without_core()
    assert ops.name == "cpu-opencv"
    solver = make_solver(TVL1Params(), ops)
    with pytest.raises(BackendError, match="compiler.*opencv_tvl1"):
        solver.solve(*[solver.prepare(np.zeros((1, 64, 64), np.uint8))] * 2)


def test_without_the_core_other_operations_work(rng):
    ops, reference = without_core(), get_ops("reference")
    frames = rng.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    flow = rng.normal(0, 12, (2, 2, 20, 30)).astype(np.float32)
    gray = ops.gray(frames)
    np.testing.assert_array_equal(ops.difference(frames)[0], reference.difference(frames)[0])
    np.testing.assert_array_equal(ops.quantise(flow, 20)[0], reference.quantise(flow, 20)[0])
    warped = ops.warp_homography(gray[1:], np.stack([np.eye(3)] * 2), gray[:-1])
    assert warped.shape == (2, 20, 30)
    assert ops.resize(frames, 8, 9).shape == (3, 8, 9, 3)


def test_arguments_are_checked():
    ops = get_ops("reference")
    with pytest.raises(ValueError, match="frames must be uint8"):
        ops.gray(np.zeros((2, 4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="at least one pixel"):
        ops.gray(np.zeros((2, 0, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="flow must be float32"):
        ops.quantise(np.zeros((1, 2, 4, 4)), 20)
    with pytest.raises(ValueError, match="bound must be"):
        ops.quantise(np.zeros((1, 2, 4, 4), np.float32), 0)
    with pytest.raises(ValueError, match="homography must be"):
        ops.warp_homography(np.zeros((1, 4, 4), np.uint8), np.eye(3), np.zeros((1, 4, 4), np.uint8))


def dense_flow_level(value: float, bound: float) -> int:
    """The rule of dense_flow's common.cpp, one value at a time in double precision."""
    if value > bound:
        return 255
    if value < -bound:
        return 0
    return round(255 * (value + bound) / (2 * bound))  # Python's round is half to even, as cvRound


@pytest.mark.parametrize("name", EVERY)
@given(
    values=hnp.arrays(np.float32, 8, elements=st.floats(-50, 50, width=32)),
    bound=st.sampled_from([20.0, 15.0, 32.0, 0.7]),
)
def test_flow_is_quantised_by_the_rule_of_dense_flow(name, values, bound):
    levels, clipped = backend(name).quantise(values.reshape(1, 2, 2, 2), bound)
    assert levels.ravel().tolist() == [dense_flow_level(float(v), bound) for v in values]
    assert clipped.tolist() == [int((np.abs(values.astype(float)) > bound).sum())]


@pytest.mark.parametrize("name", EVERY)
def test_every_boundary_of_the_quantiser_is_exact(name):
    """Values around each of the 255 steps, where rounding decides."""
    edges = (np.arange(256) + 0.5) * 40 / 255 - 20
    values = np.concatenate([edges, np.nextafter(edges, 99), np.nextafter(edges, -99)])
    values = np.append(values, [0.0, 20.0, -20.0, 0.078431375]).astype(np.float32)
    levels, _ = backend(name).quantise(values.reshape(1, 2, 1, -1), 20)
    assert levels.ravel().tolist() == [dense_flow_level(float(v), 20) for v in values]


@pytest.mark.parametrize("name", EVERY)
def test_zero_is_128_and_the_inverse_is_within_half_a_level(name, rng):
    ops = backend(name)
    flow = rng.uniform(-20, 20, (1, 2, 30, 30)).astype(np.float32)
    flow[0, 0, 0, :2] = 0.0, -0.0
    levels, clipped = ops.quantise(flow, 20)
    assert levels[0, 0, 0, :2].tolist() == [128, 128] and clipped[0] == 0
    assert np.abs(levels * (40 / 255) - 20 - flow).max() <= 20 / 255 + 1e-6


@pytest.mark.parametrize("name", EVERY)
def test_a_difference_keeps_the_sign_and_counts_clipped_values(name):
    frames = np.zeros((3, 1, 2, 3), np.uint8)
    frames[1, 0] = [[127, 128, 255], [1, 0, 0]]
    planes, clipped = backend(name).difference(frames)
    assert planes[0, :, 0].T.tolist() == [[255, 255, 255], [129, 128, 128]]
    assert planes[1, :, 0].T.tolist() == [[1, 0, 0], [127, 128, 128]]
    assert clipped.tolist() == [2, 1]


@pytest.mark.parametrize("name", EVERY)
def test_a_homography_moves_the_image_in_its_direction(name, rng):
    gray = rng.integers(0, 256, (1, 40, 50), dtype=np.uint8)
    fill = np.full_like(gray, 9)
    shift = np.array(
        [[[1.0, 0, 3], [0, 1, -2], [0, 0, 1]]]
    )  # first's (x, y) is second's (x+3, y-2)
    out = backend(name).warp_homography(gray, shift, fill)
    np.testing.assert_array_equal(out[0, 10:30, 10:40], gray[0, 8:28, 13:43])
    # Kept where 5 < x + 3 < 44 and 5 < y - 2 < 34, strictly.
    assert (out[0, 8:36, 3:41] == gray[0, 6:34, 6:44]).all()
    inside = np.zeros((40, 50), bool)
    inside[8:36, 3:41] = True
    assert (out[0][~inside] == 9).all()
