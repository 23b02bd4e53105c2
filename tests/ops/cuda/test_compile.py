"""Every kernel compiles for every architecture with NVRTC 12 and 13, within its registers."""

from __future__ import annotations

import re
from collections import Counter

import nvrtc
import pytest

from flowpipe.ops.cuda.kernels import LINES, SOURCES, folder, options
from flowpipe.ops.cuda.settings import Settings

ARCHITECTURES = {
    12: (52, 60, 61, 70, 75, 80, 86, 89, 90, 100, 120),
    13: (75, 80, 86, 89, 90, 100, 120),
}
"""Compute capabilities, times ten, that the compiler of a major version of CUDA knows."""
TARGETS = [(major, arch) for major, archs in ARCHITECTURES.items() for arch in archs]
READABLE = [target for target in TARGETS if target[1] >= 75]  # by the nvdisasm that pip installs
PIXELS = 8  # of a thread of tvl1_tile
MOST_INSTRUCTIONS = {"tvl1_tile": (52, 60), "tvl1_level": (62,)}
"""Of an iteration of one pixel, in tiles inside the image and at its border, or in a level that is
one tile: the mean of both copies of the loop's body, one of which measures the change."""


@pytest.mark.parametrize("file", SOURCES)
@pytest.mark.parametrize(("major", "architecture"), TARGETS)
def test_every_kernel_compiles_without_spills(file, major, architecture):
    nvrtc.require(major)
    kernels = nvrtc.compile_file(file, major, architecture).kernels
    assert set(kernels) == set(SOURCES[file])
    for name, usage in kernels.items():
        assert usage.spilled_bytes == 0, name
        assert usage.registers <= 128, name


def test_two_blocks_of_a_multiprocessor_share_its_registers():
    nvrtc.require(12)
    (defined,) = Settings(blocks=2).definitions["tvl1_tile"]
    usage = nvrtc.compile_file("tvl1_tile", 12, 90, defined).kernels["tvl1_tile"]
    assert usage.registers <= 64 and 0 < usage.spilled_bytes < 4096, "why one is the default"


@pytest.mark.parametrize("kernel", MOST_INSTRUCTIONS)
@pytest.mark.parametrize(("major", "architecture"), READABLE)
def test_an_iteration_takes_few_instructions(kernel, major, architecture):
    nvrtc.require(major)
    # An iteration has two square roots and a quotient per pixel: the loops with two copies of it.
    cubin = nvrtc.compile_file(kernel, major, architecture).cubin
    instructions, _ = nvrtc.disassemble(cubin, kernel)
    found = [
        nvrtc.count_opcodes(instructions[start : end + 1])
        for start, end in nvrtc.innermost(cubin, kernel, "MUFU", 6 * PIXELS)
    ]
    limits = MOST_INSTRUCTIONS[kernel]
    for most, loop in zip(limits, sorted(found, key=Counter.total), strict=True):
        assert loop.total() / (2 * PIXELS) <= most, loop
        assert not {"LDL", "STL"} & set(loop), "spills in the inner loop"


def test_line_numbers_change_no_instruction(monkeypatch):
    """They are always compiled in, so that the sanitizer's reports name lines of the sources."""
    from flowpipe.ops.cuda import kernels

    nvrtc.require(13)
    with_lines = nvrtc.compile_file("planes", 13, 90).cubin
    monkeypatch.setattr(kernels, "options", lambda: tuple(o for o in options() if o != LINES))
    without = nvrtc.compile_file.__wrapped__("planes", 13, 90).cubin
    assert b".debug_line" in with_lines and b".debug_line" not in without
    for kernel in SOURCES["planes"]:
        assert nvrtc.disassemble(with_lines, kernel) == nvrtc.disassemble(without, kernel)


def test_every_kernel_is_listed():
    for path in (folder() / "cuda").glob("*.cu"):
        declared = re.findall(
            r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(',
            path.read_text(encoding="utf-8"),
        )
        assert tuple(declared) == SOURCES[path.stem]


def test_a_changed_header_changes_the_compiler_options(monkeypatch, tmp_path):
    """CuPy looks a compiled kernel up by source and options; a changed header must change these."""
    import shutil

    from flowpipe.ops.cuda import kernels

    copy = tmp_path / "kernels"
    shutil.copytree(folder(), copy)
    monkeypatch.setattr(kernels, "folder", lambda: copy)
    before = options()
    (copy / "cuda" / "progress.cuh").write_text("// other\n", encoding="utf-8")
    assert options() != before
