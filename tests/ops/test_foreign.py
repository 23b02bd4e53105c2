"""The plain code path on AArch64, run by an emulator: the bytes are those of AVX2."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synth import translated_pair

from flowpipe.ops import TVL1Model, get_ops
from flowpipe.ops.cpu import SAMPLINGS, native_core
from flowpipe.ops.reference import FIELDS

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


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The core and a main program, compiled with the flags of setup.py."""
    flags = "-std=c++17 -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math -ffp-contract=off"
    path = tmp_path_factory.mktemp("foreign") / "core"
    source = str(HERE / "foreign_core.cpp")
    subprocess.run([COMPILER, *flags.split(), "-static", source, "-o", str(path)], check=True)
    return path


def expected(first, second, model: TVL1Model) -> bytes:
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
    assert result.stdout == expected(first, second, model)
