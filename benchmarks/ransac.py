"""Matches of real clips -> CPU time of each step of RANSAC, us.

    python benchmarks/ransac.py [--clips FOLDER]

Frames of 340x256. `ransac.cpp` repeats the search of `kernels/cpu/homography.h` with a clock around
its parts, compiled with the flags of setup.py for AVX2 and AVX-512.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.extraction.planes import PlaneMaker
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.ops import get_ops
from flowpipe.params import build
from flowpipe.video import open_video

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
FLAGS = """-std=c++17 -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math -ffp-contract=off
    -fno-exceptions -fno-rtti""".split()
ISAS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX-512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl",
                "-mprefer-vector-width=512"),
}  # fmt: skip
HEIGHT, WIDTH, CLIPS, FRAMES = 256, 340, 6, 9


def write_matches(clips: list[Path], file: Path) -> None:
    """Write the matches of each pair as the core gets them: count, threshold, rows x, y, u, v."""
    ops = get_ops()
    kind: Any = type(ops.features)
    search = kind._search
    recipe = build(ExtractRecipe, {"modalities": ["warped_flow"], "flow": "dis"}, where="recipe")
    with file.open("wb") as out:

        def note(self: Any, rows: Any, most: int, least: int, threshold: Any) -> Any:
            out.write(np.int64(rows.shape[1]).tobytes() + np.float32(threshold).tobytes())
            out.write(np.ascontiguousarray(rows, np.float32).tobytes())
            return search(self, rows, most, least, threshold)

        kind._search = note
        for clip in clips:
            with open_video(clip) as reader:
                frames = next(islice(reader.windows(max_frames=FRAMES), 1)).data
            maker = PlaneMaker(recipe, ops, "", (HEIGHT, WIDTH))
            maker.finish(maker.begin(ops.resize(frames, HEIGHT, WIDTH), len(frames)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=SHARED / "clips" / "ucf101")
    found = sorted(parser.parse_args().clips.rglob("*.avi"))
    if not found:
        parser.error("no .avi there; name a folder with --clips")
    with tempfile.TemporaryDirectory() as folder:
        matches, program = Path(folder, "matches"), Path(folder, "ransac")
        write_matches([found[k * len(found) // CLIPS] for k in range(CLIPS)], matches)
        for isa, flags in ISAS.items():
            command = ["g++", *FLAGS, *flags, "-w", HERE / "ransac.cpp", "-o", program]
            subprocess.run(command, check=True)
            done = subprocess.run([program, matches], capture_output=True, text=True)
            print(f"{isa:8}", done.stdout.strip() or f"cannot run here ({done.returncode})")


if __name__ == "__main__":
    sys.exit(main())
