"""The self test passes on correct kernels, and names the kernel that is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import cv2
import fake_cv2_cuda
import numpy as np
import pytest
from checkout import ROOT, python_path
from emulated import emulated_ops
from real_gpu import require_cuda

from flowpipe import optical_flow
from flowpipe.diagnose import selftest
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import CpuOps, native_core
from flowpipe.ops.cuda import kernels

pytestmark = pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")

OPERATIONS = 19  # their checks come first; those of whole flows take the emulator its time


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The emulator takes its time."""
    monkeypatch.setattr(selftest, "SIZE", (34, 66))
    monkeypatch.setattr(selftest, "FRAMES", 3)
    monkeypatch.setattr(selftest, "APART", 1)
    monkeypatch.setattr(selftest, "LEAK_ROUNDS", 4)


def failures(tried):
    return [check for check in tried if check.passed is False]


@pytest.mark.parametrize("ops", [emulated_ops, get_ops], ids=["cuda", "cpu"])
def test_sound_kernels_pass(ops):
    tried = list(selftest.checks(ops()))
    assert failures(tried) == []
    assert len(tried) == 27
    left_out = {check.name: check.found for check in tried if check.passed is None}
    assert ("resize of surfaces" in left_out) == (ops is get_ops)
    if cv2.cuda.getCudaEnabledDeviceCount() < 1:
        assert "docs/opencv-cuda.md" in left_out.pop(selftest.OPENCV_CHECK)
    assert set(left_out) <= {"resize of surfaces"}


@pytest.mark.parametrize(
    ("file", "sound", "broken", "failing"),
    [
        ("planes.cu", "quantise_value(value, bound)", "quantise_value(value, 2 * bound)",
         {"quantise"}),
        ("frames.cu", "(1 << 14)", "(1 << 15)", {"gray"}),
        ("surfaces.cu", "(1 << 21)", "(1 << 22)", {"resize of surfaces"}),
        ("pyramid.cu", "(index + 0.5)", "(index + 0.4)", {"pyramid centred", "upsample"}),
        ("corners.cu", "(a + c) - ", "(a + c) + ", {"corners"}),
        ("corners.cu", "level > greatest ?", "level > least ?", {"level ranges"}),
        ("akaze.cu", "value > threshold", "value > 2 * threshold", {"keypoints"}),
        ("match.cu", "key < best ? key : best;\n    }\n    if", "key;\n    }\n    if",
         {"keypoint matches"}),
        ("warp.cuh", "constant_part(sum.x,", "constant_part(0.99f * sum.x,",
         {"tvl1_warps opencv2", "tvl1_warps opencv4_cpu"}),
    ],
)  # fmt: skip
def test_a_broken_kernel_is_named(monkeypatch, tmp_path, file, sound, broken, failing):
    copy = tmp_path / "kernels"
    shutil.copytree(kernels.folder(), copy)
    source = (copy / "cuda" / file).read_text(encoding="utf-8")
    assert sound in source
    (copy / "cuda" / file).write_text(source.replace(sound, broken, 1), encoding="utf-8")
    monkeypatch.setattr(kernels, "folder", lambda: copy)
    tried = islice(selftest.checks(emulated_ops()), OPERATIONS)
    failed = {check.name for check in failures(tried)}
    assert failing <= failed and len(failed) <= 5


FEATURES = """
from emulated import emulated_ops
from flowpipe.diagnose import selftest
for check in selftest.checks(emulated_ops(), (64, 64), ["corners", "keypoints"]):
    assert check.passed, check.found
    print(check.found)
"""


def test_features_pass_beside_a_cpu_that_rounds_in_another_way():
    """OpenCV without fused multiply-add, as on CPUs that lack it; the kernels fuse."""
    emulated_ops()
    plain = {**os.environ, "OPENCV_CPU_DISABLE": "AVX2,FMA3", "FLOWPIPE_ISA": "baseline"}
    plain["PYTHONPATH"] = python_path(ROOT, ROOT / "tests" / "support")
    done = subprocess.run(
        [sys.executable, "-c", FEATURES], capture_output=True, text=True, env=plain, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("call", [0, 1], ids=["first array", "last array"])
def test_a_nan_anywhere_fails_its_check(monkeypatch, call):
    ops, calls = get_ops(), []
    upsample = ops.upsample

    def upsample_with_nan(*arguments):
        flow = upsample(*arguments)
        if len(calls) == call:
            flow[1, 0, 5, 5] = np.nan
        calls.append(flow)
        return flow

    monkeypatch.setattr(ops, "upsample", upsample_with_nan)
    (check,) = selftest.checks(ops, only=["upsample"])
    assert len(calls) > call and not check.passed and "nan" in check.found


def test_an_error_of_a_device_fails_its_check_alone(monkeypatch):
    ops = get_ops()

    def refuse(*arguments, **named):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(ops, "warp_homography", refuse)
    failed = failures(selftest.checks(ops))
    assert [check.name for check in failed] == ["warp_homography"]
    assert "illegal memory access" in failed[0].found


@pytest.mark.parametrize(("variant", "sound"), [("opencv4", True), ("opencv2", False)])
def test_opencv_s_cuda_code_is_compared_where_cv2_has_it(monkeypatch, variant, sound):
    """The stand-in computes a variant of ours; the real one is what ``opencv4`` follows."""
    monkeypatch.undo()  # of the small sizes, at which the variants hardly differ
    fake_cv2_cuda.install(monkeypatch)

    def calc(algorithm, first, second, flow):
        pair = (frame.download() for frame in (first, second))
        return fake_cv2_cuda.upload(optical_flow(*pair, variant, strict_stop=True))

    monkeypatch.setattr(fake_cv2_cuda.OpticalFlowDual_TVL1, "calc", calc)
    monkeypatch.setattr(selftest, "FRAMES", 2)
    checks = selftest.checks(get_ops())
    judged = next(check for check in checks if check.name == selftest.OPENCV_CHECK)
    assert judged.passed is sound, judged.found
    assert "px" in judged.found


class OtherTVL1(CpuOps):
    """The CPU as a device that rounds in another way, or whose TV-L1 is wrong."""

    def __init__(self, **factors):
        super().__init__()
        self.factors = factors

    def tvl1_start(self, first, second, flow, model, memory):
        changed = {name: getattr(model, name) * by for name, by in self.factors.items()}
        return super().tvl1_start(first, second, flow, replace(model, **changed), memory)


WHOLE_FLOWS = ["tvl1 opencv2", "tvl1 opencv4"]


def test_the_limit_of_whole_flows_lies_between_rounding_and_a_fault(monkeypatch):
    monkeypatch.undo()  # of the small sizes, for which no limit is meant
    monkeypatch.setattr(selftest, "FRAMES", 5)
    assert failures(selftest.checks(OtherTVL1(tau=1 + 4 * 2.0**-23), only=WHOLE_FLOWS)) == []
    failed = failures(selftest.checks(OtherTVL1(epsilon=1.2), only=WHOLE_FLOWS))
    assert [check.name for check in failed] == WHOLE_FLOWS


@pytest.mark.parametrize(("clip", "seen"), [("circle_00", 1.16), ("slide_03", 0.72)])
def test_rounding_alone_fails_on_no_clip(clip, seen, monkeypatch):
    """As many percent of the bytes of these lie beyond a level, by rounding (`opencv4`)."""
    monkeypatch.undo()
    monkeypatch.setattr(selftest, "CLIP", clip)
    monkeypatch.setattr(selftest, "FRAMES", 5)
    (check,) = selftest.checks(OtherTVL1(tau=1 + 4 * 2.0**-23), only=["tvl1 opencv4"])
    assert check.passed, check.found
    assert float(check.found.partition(" ")[0]) > seen / 3 > 100 * selftest.BEYOND_A_LEVEL


@pytest.mark.cuda
def test_this_gpu_is_sound(monkeypatch):
    require_cuda()
    monkeypatch.undo()  # of the small sizes
    assert failures(selftest.checks(get_ops("cuda"))) == []
