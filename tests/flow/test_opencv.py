"""OpenCV's flows: they find motion, and a pair's flow does not depend on earlier pairs."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from checkout import ROOT, python_path
from synth import translated_pair

from flowpipe.errors import BackendError
from flowpipe.flow import FLOWS, make_solver
from flowpipe.flow.opencv import FarnebackParams, OpenCVTVL1Params, opencv_tvl1_solver
from flowpipe.ops import get_ops

NAMES = ["opencv_tvl1", "dis", "farneback"]


def solver_of(name):
    return make_solver(FLOWS[name].params(), get_ops())


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_finds_a_known_motion(name):
    first, second = (f[None] for f in translated_pair(120, 160, 3, -2, seed=4))
    solver = solver_of(name)
    flow = solver.solve(solver.prepare(first), solver.prepare(second))
    assert flow.shape == (1, 2, 120, 160) and flow.dtype == np.float32
    inner = flow[0, :, 20:-20, 20:-20]
    assert np.hypot(inner[0] - 3, inner[1] + 2).mean() < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_s_flow_does_not_depend_on_earlier_pairs(name, rng):
    """Other pairs and sizes in between change nothing: a tiny one would spoil a kept DualTVL1."""
    solver = solver_of(name)
    pairs = [
        translated_pair(*size, 2, 1, seed=7) for size in ((96, 128), (20, 24), (96, 128), (64, 40))
    ]
    pairs[2] = tuple(rng.integers(0, 256, (2, 96, 128), dtype=np.uint8))

    def solve(pair):
        return solver.solve(*(solver.prepare(frame[None]) for frame in pair))

    alone = [make_and_solve(name, pair) for pair in pairs]
    for k in (0, 1, 2, 3, 0, 3, 1):
        np.testing.assert_array_equal(solve(pairs[k]), alone[k])


def make_and_solve(name, pair):
    solver = solver_of(name)
    return solver.solve(*(solver.prepare(frame[None]) for frame in pair))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 9), (15, 15), (16, 16), (17, 300)])
def test_small_images_have_finite_flow(name, size, rng):
    first, second = rng.integers(0, 256, (2, 1, *size), dtype=np.uint8)
    solver = solver_of(name)
    flow = solver.solve(solver.prepare(first), solver.prepare(second))
    assert flow.shape == (1, 2, *size) and np.isfinite(flow).all()


SOLVE_ROWS = """
import hashlib
import numpy as np
from flowpipe.flow.opencv import OpenCVTVL1Params, opencv_tvl1_solver
from flowpipe.ops import get_ops
rng, digest = np.random.default_rng(7), hashlib.sha256()
solver = opencv_tvl1_solver(OpenCVTVL1Params(), get_ops())
for size in [(1, 1), (1, 2), (1, 40), (1, 300), (2, 40), (40, 1)]:
    for _ in range(20):
        digest.update(solver.solve(*rng.integers(0, 256, (2, 1, *size), dtype=np.uint8)).tobytes())
print(digest.hexdigest())
"""


def test_flow_of_a_single_row_does_not_depend_on_what_memory_held():
    said = {
        subprocess.run(
            [sys.executable, "-c", SOLVE_ROWS], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": python_path(ROOT), "MALLOC_PERTURB_": fill},
        ).stdout
        for fill in ("0", "1", "255")
    }  # fmt: skip
    assert len(said) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (17, 1), (33, 35)])
def test_levels_that_halve_work_for_any_size(size, rng):
    first, second = rng.integers(0, 256, (2, 1, *size), dtype=np.uint8)
    flow = opencv_tvl1_solver(OpenCVTVL1Params(scale_step=0.5), get_ops()).solve(first, second)
    assert np.isfinite(flow).all()


def test_opencv_without_contrib_is_refused_with_advice(monkeypatch):
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(BackendError, match="&& pip install opencv-contrib-python.* or dis"):
        make_solver(OpenCVTVL1Params(), get_ops())


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="median_filtering"):
        OpenCVTVL1Params(median_filtering=2)
    with pytest.raises(ValueError, match="pyramid_scale"):
        FarnebackParams(pyramid_scale=1.0)


@pytest.mark.parametrize(
    ("params", "name", "value"),
    [
        # OpenCV answers these with NaN, zero flow, an assertion or, for poly_n, a huge allocation
        (OpenCVTVL1Params, "theta", 0.0),
        (OpenCVTVL1Params, "tau", float("nan")),
        (OpenCVTVL1Params, "epsilon", -1.0),
        (OpenCVTVL1Params, "scales", 0),
        (OpenCVTVL1Params, "scale_step", 0.1),
        (FarnebackParams, "poly_n", -3),
        (FarnebackParams, "poly_sigma", 0.0),
        (FarnebackParams, "window", 0),
    ],
)
def test_settings_that_opencv_does_not_check_are_refused(params, name, value):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        params(**{name: value})


def test_frames_of_different_size_are_refused():
    solver = solver_of("dis")
    with pytest.raises(ValueError, match="one shape"):
        solver.solve(np.zeros((1, 20, 20), np.uint8), np.zeros((1, 20, 21), np.uint8))
