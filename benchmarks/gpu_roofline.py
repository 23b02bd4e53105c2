"""Compiled kernels, real clips, data sheets -> pairs per second of GPUs, by a model.

    python benchmarks/gpu_roofline.py [-o docs/gpu-roofline.md]

For each GPU the kernels are compiled for its architecture (NVRTC, no GPU needed) and their
instructions are counted in the machine code; `gpu_replay.py` replays the schedule with the
iterations that the pairs of ten clips took on the CPU. Nothing here was run on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import nvrtc  # noqa: E402
from gpu_replay import ASSUMED, GPUS, OTHER_S, Counts, Gpu, Replay  # noqa: E402

from flowpipe.datasets import demo  # noqa: E402
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.ops.cuda import MOST_PAIRS  # noqa: E402

HEIGHT, WIDTH = 256, 340
CLIPS = 10
PIXELS = 8  # of a thread of tvl1_tile
VARIANTS = ("opencv2", "opencv4")
SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data")) / "clips"

Levels = dict[tuple[int, int], np.ndarray]
"""(height, width) -> iterations (pairs, warps)."""


class Counted:
    """Operations that note the iterations of each warp of their TV-L1."""

    def __init__(self, ops: Any) -> None:
        self._ops, self.levels = ops, dict[tuple[int, int], list[np.ndarray]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def tvl1_warps(self, state: Any, warps: int, n: int) -> np.ndarray:
        done = np.stack([self._ops.tvl1_warps(state, 1, n) for _ in range(warps)], axis=1)
        self.levels.setdefault(state.first.shape[1:], []).append(done)
        return done.sum(1)


def clips() -> tuple[list[np.ndarray], str]:
    """Gray frames (N, H, W) of ten clips, one call's worth each, and where they are from."""
    ops = get_ops()
    videos = sorted(p for p in SHARED.rglob("*") if p.suffix in (".avi", ".mp4"))
    if videos:
        from flowpipe.video import open_video

        chosen, found = [videos[(2 * k + 1) * len(videos) // (2 * CLIPS)] for k in range(CLIPS)], []
        for video in chosen:
            with open_video(video) as reader:
                window = next(islice(reader.windows(max_frames=MOST_PAIRS + 1), 1))
            found.append(window.data)
        source = f"{CLIPS} real clips (HMDB51, Kinetics, UCF101)"
    else:
        names = [demo.VIDEO_IDS[k * len(demo.VIDEO_IDS) // CLIPS] for k in range(CLIPS)]
        found = [np.stack(list(islice(demo.clean_frames(n), MOST_PAIRS + 1))) for n in names]
        source = f"{CLIPS} clips of the demo set (no real ones: set FLOWPIPE_SHARED_DATA)"
    return [ops.gray(ops.resize(frames, HEIGHT, WIDTH)) for frames in found], source


def iterations(gray: np.ndarray, variant: str) -> Levels:
    """Count the iterations of a clip's pairs on the CPU; pairs are repeated to fill a call."""
    counted = Counted(get_ops())
    solver = TVL1Solver(TVL1Params(variant=variant), counted)
    frames = solver.prepare(gray)
    solver.solve(frames[:-1], frames[1:])
    levels = {size: np.concatenate(done) for size, done in counted.levels.items()}
    return {size: np.resize(done, (MOST_PAIRS, done.shape[1])) for size, done in levels.items()}


def counts(architecture: int) -> Counts:
    """Count the instructions of the kernels for an architecture."""
    cubin = nvrtc.compiled("tvl1_tile", 12, architecture).cubin
    instructions, labels = nvrtc.disassembled(cubin, "tvl1_tile")
    loops = []
    for end, (opcode, operands) in enumerate(instructions):
        target = re.search(r"\.L_x?_?\w+", operands) if opcode.startswith("BRA") else None
        start = labels.get(target[0], end) if target else end
        roots = sum(name.startswith("MUFU") for name, _ in instructions[start:end])
        if roots >= 6 * PIXELS:  # two copies of an iteration, one of which measures the change
            loops.append((start, end))
    (inside, border) = sorted((end - start + 1) / 2 for start, end in loops)
    last = max(end for _, end in loops)
    stop = next(k for k in range(last, len(instructions)) if instructions[k][0] == "EXIT")
    warp = nvrtc.compiled("tvl1_warp", 12, architecture).cubin
    return Counts(
        prologue=min(start for start, _ in loops),
        epilogue=stop - last,
        inside=inside,
        border=border,
        warp=len(nvrtc.disassembled(warp, "tvl1_warp")[0]),
    )


def predicted(replay: Replay, clips: list[Levels]) -> tuple[float, float]:
    """Pairs per second over all clips, and kernel launches per pair."""
    costs = [replay.level(*size, done) for levels in clips for size, done in levels.items()]
    pairs = MOST_PAIRS * len(clips)
    seconds = sum(cost.seconds for cost in costs) + pairs * OTHER_S
    return pairs / seconds, sum(cost.launches for cost in costs) / pairs


def speeds(replay: Replay, clips: list[Levels]) -> str:
    """Pairs per second, lower and higher figure."""
    both = (
        predicted(dataclasses.replace(replay, spread=spread), clips) for spread in (False, True)
    )
    return " to ".join(f"{pairs_per_s:,.0f}" for pairs_per_s, _ in both)


def row(gpu: Gpu, clips: dict[str, list[Levels]]) -> str:
    """Return a line of the table of GPUs."""
    found = counts(gpu.architecture)
    replay = Replay(gpu, found)
    cells = (
        f"{gpu.name} (sm_{gpu.architecture})",
        f"{found.prologue:.0f} + {found.epilogue:.0f}",
        f"{found.inside / PIXELS:.1f}, {found.border / PIXELS:.1f}",
        f"{found.warp:.0f}",
        f"{predicted(replay, clips[VARIANTS[0]])[1]:.1f}",
        *(speeds(replay, clips[variant]) for variant in VARIANTS),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", type=Path, help="write Markdown here")
    chosen = parser.parse_args()
    gray, source = clips()
    counted = {variant: [iterations(frames, variant) for frames in gray] for variant in VARIANTS}
    lines = [
        "# What GPUs could do: a model",
        "",
        "Written by `python benchmarks/gpu_roofline.py`. **Nothing here was measured on a GPU.**",
        f"Calls of {MOST_PAIRS} pairs of {WIDTH}x{HEIGHT} from {source} are",
        "replayed on the schedule of `flowpipe/ops/cuda_ladder.py`, with the iterations that each",
        "pair, level and warp takes on the CPU. Instructions are counted in the compiled kernels.",
        "Measure your own: `flowpipe bench flow --device cuda`.",
        "",
        "| GPU | instructions of a thread: prologue + epilogue of a launch | of an iteration of a "
        "pixel: inside, border | of a pixel's warp | launches per pair | `opencv2` pairs/s | "
        "`opencv4` pairs/s |",
        "|---|---|---|---|---|---|---|",
        *(row(gpu, counted) for gpu in GPUS),
        "",
        "## Assumptions",
        "",
        *(f"- {line}" for line in ASSUMED),
    ]
    text = "\n".join(lines) + "\n"
    if chosen.o:
        chosen.o.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
