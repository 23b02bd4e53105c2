"""The baseline code on AArch64, run by QEMU: its bytes are those of AVX2."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from synth import translated_pair

from flowpipe.ops import TVL1Model, get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.ops.tables import FIELDS, SAMPLINGS

HERE = Path(__file__).parent
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
MODEL = TVL1Model(tau=0.25, lambda_=0.15, theta=0.3, epsilon=0.01, block=1)

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
        reason=f"needs {COMPILER} and {EMULATOR}",
    ),
    pytest.mark.skipif("avx2" not in native_core().usable, reason="compares with AVX2"),
]


def compile_core(folder: Path, name: str) -> Path:
    """The core and a main program, compiled with the flags of setup.py."""
    flags = "-std=c++17 -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math -ffp-contract=off"
    path = folder / name
    source = str(HERE / f"{name}.cpp")
    subprocess.run([COMPILER, *flags.split(), "-static", source, "-o", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return compile_core(tmp_path_factory.mktemp("foreign"), "foreign_core")


@pytest.fixture(scope="module")
def features_program(tmp_path_factory) -> Path:
    return compile_core(tmp_path_factory.mktemp("foreign"), "foreign_features")


def compute_expected(first, second, model: TVL1Model) -> bytes:
    """What foreign_core.cpp writes, from this CPU's AVX2 code."""
    ops, (height, width) = get_ops(isa="avx2"), first.shape
    sizes = [(height, width), ((height + 1) // 2, (width + 1) // 2)]
    levels = ops.pyramid(np.stack([first, second]), sizes, "pyrdown", 0.5)
    parts, flow = [levels[1]], None
    for level in reversed(levels):
        memory = ops.tvl1_memory(1, *level.shape[1:])
        if flow is not None:
            flow = ops.upsample(flow, height, width, 2.0, "pyrdown")
        state = ops.tvl1_start(level[:1], level[1:], flow, model, memory)
        parts += [ops.tvl1_warps(state, 1, 60) for _ in range(3)]
        parts += [state.field(name) for name in FIELDS]
        flow = ops.tvl1_flow(state, ops.empty(1, 2, *level.shape[1:]))
    parts += ops.quantise(flow, 20.0)
    matrix = np.array([[1.01, 0.02, -1.5], [-0.01, 0.99, 0.7], [1e-4, -1e-4, 1.0]])[None]
    parts.append(ops.warp_homography(first[None], matrix, second[None], 2))
    return b"".join(part.tobytes() for part in parts)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (37, 1), (33, 45), (64, 80)])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("block", [1, 4])
def test_aarch64_gives_the_bytes_of_avx2(program, size, sampling, block):
    first, second = translated_pair(*size, 1.4, -0.8, seed=1)
    arguments = [*map(str, size), str(SAMPLINGS.index(sampling)), str(block)]
    result = subprocess.run(
        [EMULATOR, str(program), *arguments],
        input=first.tobytes() + second.tobytes(),
        capture_output=True,
        check=True,
    )
    model = replace(MODEL, sampling=sampling, block=block, spaced=sampling == "catmull_rom")
    assert result.stdout == compute_expected(first, second, model)


@pytest.mark.parametrize("size", [(70, 83), (120, 160)])
def test_features_on_aarch64_are_those_of_avx2(features_program, size):
    noise = np.random.default_rng(3).standard_normal((6, *size)).astype(np.float32)
    images = cv2.GaussianBlur(noise.transpose(1, 2, 0), (0, 0), 1.5).transpose(2, 0, 1).copy()
    result = subprocess.run(
        [EMULATOR, str(features_program), *map(str, size)],
        input=images.tobytes(),
        capture_output=True,
        check=True,
    )
    ops, (gray, dx, dy, xx, xy, yy) = get_ops(isa="avx2"), images
    points = np.empty((gray.size // 4, 2), np.float32)
    points = points[: ops.call("akaze_keypoints", *size, xx, xy, yy, 2e-4, points)]
    found = len(points)
    assert found > 0
    bits = np.empty((found, 8), np.uint64)
    ops.call("akaze_bits", found, size[1], gray, dx, dy, points, bits)
    corners = np.empty((200, 2), np.float32)
    corners = corners[: ops.call("select_corners", *size, gray, None, 200, 3.0, corners)]
    x, y = (np.arange(found) // 3).astype(np.float32), points[:, 0].copy()
    numbers, matched = np.arange(found)[::-1].copy(), np.empty(found, np.int64)
    ops.call("match_bits", found, found, 8, 9.5, x, y, bits, numbers, points, bits, matched)
    assert result.stdout == b"".join(a.tobytes() for a in (points, bits, corners, matched))
