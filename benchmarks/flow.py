"""Real clips -> CPU milliseconds per 340x256 pair, for every flow this machine can run.

    python benchmarks/flow.py [--clips FOLDER] [--pairs 12] [--repeat 5]

CPU time of one pinned thread, best of several passes over the same pairs: other load on the machine
shows little. OpenCV is single-threaded; its DualTVL1 without the median filter is the base line.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.flow import make_solver
from flowpipe.flow.opencv import DISParams, FarnebackParams, OpenCVTVL1Params
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.video import open_video

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT.parent / "shared" / "data" / "clips" / "ucf101"


def real_pairs(folder: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(first, second) uint8 (count, 256, 340), spread over the clips below a folder."""
    ops, first, second = get_ops(), [], []
    clips = sorted(p for p in folder.rglob("*") if p.suffix in (".avi", ".mp4"))
    if not clips:
        raise SystemExit(f"no .avi or .mp4 below {folder}; name a folder of clips with --clips")
    chosen = clips[:: max(1, 4 * len(clips) // count)][: max(1, count // 3)]
    for clip in chosen:
        with open_video(clip) as video:
            frames = next(iter(video.windows(max_frames=20))).data
        gray = ops.gray(ops.resize(frames, 256, 340))
        for k in np.linspace(1, len(gray) - 2, -(-count // len(chosen))).astype(int):
            first.append(gray[k])
            second.append(gray[k + 1])
    return np.stack(first[:count]), np.stack(second[:count])


def cpu_ms(work: Callable[[], object], repeat: int, pairs: int) -> float:
    """CPU milliseconds per pair, best of `repeat` passes."""
    best = float("inf")
    for _ in range(repeat):
        began = time.thread_time()
        work()
        best = min(best, time.thread_time() - began)
    return 1000 * best / pairs


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    first, second = real_pairs(options.clips, options.pairs)
    print(f"{len(first)} pairs of 340x256 from {options.clips}; OpenCV {cv2.__version__}")

    def measure(name: str, params: object, isa: str | None = None, repeat: int = options.repeat):
        solver = make_solver(params, get_ops(isa=isa))
        ms = cpu_ms(
            lambda: solver.solve(solver.prepare(first), solver.prepare(second)), repeat, len(first)
        )
        print(f"{name:40} {ms:9.2f} ms/pair  {1000 / ms:8.1f} pairs/s", end="")
        return ms

    base = measure("cv2 DualTVL1, no median filter", OpenCVTVL1Params(median_filtering=1), repeat=2)
    print(f"  {1:6.1f}x")
    rows: list[tuple[str, object, str | None]] = [
        ("cv2 DIS medium", DISParams(), None),
        ("cv2 Farneback, dense_flow's settings", FarnebackParams(), None),
    ]
    for isa in native_core().usable:
        for variant in ("opencv2", "opencv4"):
            rows.append((f"native {isa} {variant}", TVL1Params(variant=variant), isa))
    if not native_core().available:
        print(native_core().reason)
    for name, params, isa in rows:
        print(f"  {base / measure(name, params, isa):6.1f}x", flush=True)


if __name__ == "__main__":
    main()
