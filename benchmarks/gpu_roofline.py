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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

import nvrtc  # noqa: E402
from gpu_replay import ASSUMED, GPUS, OTHER_S, Counts, Gpu, Replay, kernels_between  # noqa: E402

from flowpipe.datasets import demo  # noqa: E402
from flowpipe.flow.tvl1 import TVL1Params, TVL1Solver  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.ops.cuda.operations import MOST_PAIRS  # noqa: E402
from flowpipe.ops.cuda.settings import Settings, tiles  # noqa: E402

HEIGHT, WIDTH = 256, 340
CLIPS = 10
SPILLED = (80, 90, 120)
"""Architectures for which the spills of `tvl1_tile` with two blocks are reported."""
PIXELS = 8  # of a thread of tvl1_tile
KERNELS = ("tvl1_tile", "tvl1_level")
VARIANTS = ("opencv2", "opencv4")
SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data")) / "clips"

CHANGES = (
    ("schedule before", "30.3", "2,694 to 3,215", "1,418 to 1,733"),
    ("a finished pair leaves its slot to the next one: groups ran until their slowest pair was "
     "done, each with an empty graph", "22.5", "3,167 to 3,819", "1,750 to 2,172"),
    ("the warp is part of the step that needs it: it was a launch of its own in each slot, and 5 "
     "of 36 had work; 258 instead of 296 instructions a pixel", "11.2", "3,584 to 4,513",
     "2,018 to 2,645"),
    ("fields lie in vectors of 16 bytes a constant distance apart, 32-bit offsets, no predicates "
     "inside the image: prologue 368 instead of 657 instructions, an iteration of a pixel 51.0 "
     "instead of 49.8", "11.2", "3,812 to 4,881", "2,146 to 2,870"),
    ("warps below the image do not compute: 59.2 instead of 56.4 instructions at borders", "11.2",
     "4,040 to 5,259", "2,211 to 2,986"),
    ("a level of one tile is one launch, without a graph or a wait for the host", "8.4",
     "4,340 to 5,700", "2,211 to 2,986"),
    ("the cache is filled with rows of 16 columns, as they lie in memory: 32 were counted", "8.4",
     "4,351 to 5,700", "2,185 to 2,984"),
)  # fmt: skip
"""Predictions of the model for an H100 after each successive change of the schedule."""

Levels = dict[tuple[int, int], np.ndarray]
"""(height, width) -> iterations (pairs, warps)."""


class CountingOps:
    """Wrapper of operations that records the iterations of each warp of TV-L1."""

    def __init__(self, ops: Any) -> None:
        self._ops, self.levels = ops, dict[tuple[int, int], list[np.ndarray]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def tvl1_warps(self, state: Any, warps: int, n: int) -> np.ndarray:
        done = np.stack([self._ops.tvl1_warps(state, 1, n) for _ in range(warps)], axis=1)
        self.levels.setdefault(state.first.shape[1:], []).append(done)
        return done.sum(1)


def clips() -> tuple[list[np.ndarray], str]:
    """Return gray frames (N, H, W) of ten clips, enough for one call each, and their origin."""
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
    counted = CountingOps(get_ops())
    solver = TVL1Solver(TVL1Params(variant=variant), counted)
    frames = solver.prepare(gray)
    solver.solve(frames[:-1], frames[1:])
    levels = {size: np.concatenate(done) for size, done in counted.levels.items()}
    return {size: np.resize(done, (MOST_PAIRS, done.shape[1])) for size, done in levels.items()}


def counts(architecture: int) -> Counts:
    """Count the instructions of the kernels for an architecture."""
    tile, level = (nvrtc.compile_file(name, 12, architecture).cubin for name in KERNELS)
    instructions, labels = nvrtc.disassemble(tile, "tvl1_tile")
    found = nvrtc.innermost(tile, "tvl1_tile", "MUFU", 6 * PIXELS)
    inside, border = sorted((end - start + 1) / 2 for start, end in found)  # two copies each
    first, last = min(start for start, _ in found), max(end for _, end in found)
    stop = next(k for k in range(last, len(instructions)) if instructions[k][0] == "EXIT")
    (taps,) = (loop for loop in nvrtc.innermost(tile, "tvl1_tile", "LDG", 16) if loop[1] < first)
    # What is jumped over where no warp is due.
    over = [
        (k, labels.get(target[0], 0))
        for k, (opcode, operands) in enumerate(instructions[: taps[0]])
        if opcode.startswith("BRA") and (target := re.search(r"\.L_x?_?\w+", operands))
    ]
    begins, ends = max((b for b in over if taps[1] < b[1] < first), key=lambda b: b[1] - b[0])
    of_pixel = taps[1] - taps[0] + 1
    of_level = nvrtc.innermost(level, "tvl1_level", "MUFU", 6 * PIXELS)
    return Counts(
        prologue=first - (ends - begins),
        epilogue=stop - last,
        inside=inside,
        border=border,
        warp=ends - begins + (PIXELS - 1) * of_pixel,
        level=sum((end - start + 1) / 2 for start, end in of_level),
    )


def predict(replay: Replay, clips: list[Levels]) -> tuple[float, float]:
    """Return the pairs per second over all clips, and the kernel launches per pair."""
    costs = [replay.level(*size, done) for levels in clips for size, done in levels.items()]
    pairs = MOST_PAIRS * len(clips)
    seconds = sum(cost.seconds for cost in costs) + pairs * OTHER_S
    return pairs / seconds, sum(cost.launches for cost in costs) / pairs


def speeds(replay: Replay, clips: list[Levels]) -> str:
    """Return the pairs per second as text, lower and higher figure."""
    both = (predict(dataclasses.replace(replay, spread=spread), clips) for spread in (False, True))
    return " to ".join(f"{pairs_per_s:,.0f}" for pairs_per_s, _ in both)


def row(gpu: Gpu, clips: dict[str, list[Levels]]) -> str:
    """Return a line of the table of GPUs."""
    found = counts(gpu.architecture)
    replay = Replay(gpu, found)
    cells = (
        f"{gpu.name} (sm_{gpu.architecture})",
        f"{found.prologue:.0f} + {found.epilogue:.0f}",
        ", ".join(f"{n / PIXELS:.1f}" for n in (found.inside, found.border, found.level)),
        f"{found.warp / PIXELS:.0f}",
        f"{predict(replay, clips[VARIANTS[0]])[1]:.1f}",
        *(speeds(replay, clips[variant]) for variant in VARIANTS),
    )
    return f"| {' | '.join(cells)} |"


def describe_spills() -> str:
    """Describe the spills of `tvl1_tile` if two of its blocks share a multiprocessor."""
    (defined,) = Settings(blocks=2).definitions["tvl1_tile"]
    of = {
        sm: nvrtc.compile_file("tvl1_tile", 12, sm, defined).kernels["tvl1_tile"] for sm in SPILLED
    }
    each = ", ".join(f"{usage.spilled_bytes:,} on sm_{sm}" for sm, usage in of.items())
    return (
        f"With two tiles on a multiprocessor (`blocks=2`) a thread of `tvl1_tile` has "
        f"{max(usage.registers for usage in of.values())} registers\ninstead of 128, "
        f"and spills (bytes of stores and loads together): {each}."
    )


def describe_launches(clips: list[Levels]) -> str:
    """Describe the launches of the host in a call on an H100."""
    gpu = next(gpu for gpu in GPUS if gpu.architecture == 90)
    replay = Replay(gpu, Counts(*[100.0] * 6))  # launches do not depend on instructions
    steps = [
        sum(
            replay.level(*size, done).launches // replay.settings.steps
            for size, done in levels.items()
            if tiles(*size) != (1, 1)
        )
        for levels in clips
    ]
    kernels, graphs = kernels_between(list(clips[0]))
    return (
        f"The host launches {np.mean(steps) + graphs:.0f} graphs a call and nothing else on an "
        f"H100 (`opencv2`, mean of {len(clips)} clips):\n{np.mean(steps):.0f} of steps, and "
        f"{graphs} with the {kernels} kernels of pyramids, starts and ends of levels. The "
        "first\ncall of a size launches these kernels one by one, as all calls did before; the "
        "model does not distinguish the two."
    )


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", type=Path, help="Markdown file to write")
    chosen = parser.parse_args()
    if lack := nvrtc.why_no_compiler(12) or nvrtc.why_no_disassembler():
        parser.error(lack)
    gray, source = clips()
    counted = {variant: [iterations(frames, variant) for frames in gray] for variant in VARIANTS}
    lines = [
        "# What GPUs could do: a model",
        "",
        "This page predicts the pairs/s of GPUs with a model. **Nothing was measured on a GPU.**",
        "`python benchmarks/gpu_roofline.py` writes it.",
        f"Calls of {MOST_PAIRS} pairs of {WIDTH}x{HEIGHT} from {source} are",
        "replayed on the schedule of `flowpipe/ops/cuda/schedule.py`, with the iterations that",
        "each pair, level and warp takes on the CPU. Instructions are counted in the compiled",
        "kernels.",
        "Measure your own: `flowpipe bench flow --device cuda`, and `--tune` for the settings.",
        "",
        "| GPU | instructions of a thread: prologue + epilogue of a launch | of an iteration of a "
        "pixel: inside, border, one-tile level | of a pixel's warp | launches per pair | "
        "`opencv2` pairs/s | `opencv4` pairs/s |",
        "|---|---|---|---|---|---|---|",
        *(row(gpu, counted) for gpu in GPUS),
        "",
        "## What each change of the schedule gained, by the model, on an H100",
        "",
        "Each row has the changes above it too. Instructions are those of sm_90.",
        "",
        "| change | launches per pair | `opencv2` pairs/s | `opencv4` pairs/s |",
        "|---|---|---|---|",
        *(f"| {' | '.join(change)} |" for change in CHANGES),
        "",
        describe_launches(counted[VARIANTS[0]]),
        "",
        describe_spills(),
        "",
        "Known and not changed: each level of more than one tile ends with an empty graph,",
        "because the host launches it before it knows that no pair is left. It costs some 0.5 %",
        "of an H100's time. Graphs of two steps would halve it, but with so little queued work",
        "the GPU would wait for the host. Conditional nodes (CUDA 12.4) would avoid it, but",
        "CuPy 14 makes graphs by capture only. If the host waited for the result before each",
        "launch, the GPU would have no work after every graph, not only after the last one of a",
        "level. Two tiles of a level in one block gain nothing: they would run one after the",
        "other.",
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
