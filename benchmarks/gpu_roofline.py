"""Compiled kernels, data sheets -> what a GPU could do at best: a table of predictions.

    python benchmarks/gpu_roofline.py [-o docs/gpu-roofline.md]

For each GPU the kernels are compiled for its architecture (NVRTC, no GPU needed), and the
instructions of an iteration and of a warp are counted in the machine code. A pair of frames is
bound by the slower of issuing these instructions and of moving the state through memory. Nothing
here was run on a GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import nvrtc  # noqa: E402

from flowpipe.bench import made_pairs  # noqa: E402
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.ops.cuda_ladder import HALO_PX, TILE_PX, tiles  # noqa: E402

HEIGHT, WIDTH = 256, 340
ISSUE = 0.7  # of the issue slots that a kernel with barriers uses: an assumption
PIXELS = 8  # of a thread of tvl1_tile
STATE_BYTES, WARP_BYTES = 4 * (10 + 6), 4 * (3 + 4) + 16  # per pixel of a launch, of a warp


class Gpu(NamedTuple):
    """A data sheet."""

    name: str
    architecture: int
    multiprocessors: int
    clock_hz: float
    slots: int
    """Instructions of a thread that a multiprocessor issues in a clock."""
    memory_bytes_per_s: float


GPUS = (
    Gpu("T4", 75, 40, 1.59e9, 64, 320e9),
    Gpu("A100", 80, 108, 1.41e9, 64, 1555e9),
    Gpu("RTX 3090", 86, 82, 1.70e9, 128, 936e9),
    Gpu("RTX 4090", 89, 128, 2.52e9, 128, 1008e9),
    Gpu("H100 SXM", 90, 132, 1.83e9, 128, 3350e9),
    Gpu("B200", 100, 148, 1.85e9, 128, 8000e9),
    Gpu("RTX 5090", 120, 170, 2.41e9, 128, 1792e9),
)


class Work(NamedTuple):
    """What a pair takes, over all its levels."""

    iterations: float
    """Pixels of whole tiles times iterations: halos are computed too."""
    moved: float
    """Pixels of tiles times launches."""
    warped: float
    """Pixels times warps."""


def work(variant: str) -> Work:
    """Of the mean pair of the demo set's clips, counted on the CPU."""
    counted, pairs = Counted(get_ops()), made_pairs(12, HEIGHT, WIDTH)
    solver = TVL1Solver(TVL1Params(variant=variant), counted)
    for k in range(len(pairs.first)):
        one = slice(k, k + 1)
        solver.solve(solver.prepare(pairs.first[one]), solver.prepare(pairs.second[one]))
    return Work(*(np.array(counted.sums) / len(pairs.first)))


class Counted:
    """Operations that add up what their TV-L1 does."""

    def __init__(self, ops) -> None:
        self._ops, self.sums = ops, [0.0, 0.0, 0.0]

    def __getattr__(self, name):
        return getattr(self._ops, name)

    def tvl1_warps(self, state, warps, n):
        done = self._ops.tvl1_warps(state, warps, n)
        height, width = state.first.shape[1:]
        across, down = tiles(height, width)
        covered = across * down * TILE_PX**2
        launches = done.sum() / HALO_PX
        self.sums[0] += covered * done.sum()
        self.sums[1] += covered * launches
        self.sums[2] += height * width * warps
        return done


def instructions(gpu: Gpu) -> tuple[float, float]:
    """Of an iteration of one pixel inside the image, and of one pixel of a warp."""
    major = 12
    cubin = nvrtc.compiled("tvl1_tile", major, gpu.architecture).cubin
    loops = [loop for loop in nvrtc.loops(cubin, "tvl1_tile") if loop["MUFU"] >= 6 * PIXELS]
    iteration = min(loop.total() for loop in loops) / (2 * PIXELS)
    warp = nvrtc.compiled("tvl1_warp", major, gpu.architecture).cubin
    return iteration, len(nvrtc.disassembled(warp, "tvl1_warp")[0])


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", type=Path, help="write Markdown here")
    chosen = parser.parse_args()
    needed = {variant: work(variant) for variant in ("opencv2", "opencv4")}
    lines = [
        "# What GPUs could do: a prediction",
        "",
        "Written by `python benchmarks/gpu_roofline.py`. **Nothing here was measured on a GPU.**",
        "The instructions are counted in the compiled kernels; speeds follow from data sheets if",
        f"{100 * ISSUE:.0f} % of the issue slots are used and every launch moves its state through",
        "the GPU's main memory, with no cost of launching and no decoding or encoding. Pairs of",
        "340x256, from the demo set's clips.",
        "",
        "These are upper bounds, not expectations. They leave out prologue and epilogue of each",
        "launch, the dearer tiles at edges, pairs of a group that wait for its slowest one, warps",
        "launched for pairs that need none, and loads that do not overlap with computing, because",
        "one block fills a multiprocessor. With these counted a fifth to two fifths are left:",
        "2,500 to 5,000 pairs/s of `opencv2` on an H100.",
        "Measure your own: `flowpipe bench flow --device cuda`.",
        "",
        "| GPU | instructions per pixel: iteration, warp | `opencv2` pairs/s | bound by | "
        "`opencv4` pairs/s | bound by |",
        "|---|---|---|---|---|---|",
    ]
    for gpu in GPUS:
        iteration, warp = instructions(gpu)
        cells = []
        for amount in needed.values():
            issued = amount.iterations * iteration + amount.warped * warp
            compute_s = issued / (ISSUE * gpu.slots * gpu.multiprocessors * gpu.clock_hz)
            moved = amount.moved * STATE_BYTES + amount.warped * WARP_BYTES
            memory_s = moved / gpu.memory_bytes_per_s
            bound = "instructions" if compute_s > memory_s else "memory"
            cells += [f"{1 / max(compute_s, memory_s):,.0f}", bound]
        lines.append(
            f"| {gpu.name} (sm_{gpu.architecture}) | {iteration:.1f}, {warp} | "
            + " | ".join(cells) + " |"
        )  # fmt: skip
    text = "\n".join(lines) + "\n"
    if chosen.o:
        chosen.o.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
