"""End to end: frames per second and CPU time by stage, on the real UCF101 clips.

    python benchmarks/extract.py [--videos FOLDER] [--runs 3]

For rgb + flow and for all four modalities, with one and with two workers: wall-clock frames per
second of the extraction itself (start-up of the workers left out, as the ledger's outcomes tell),
and CPU milliseconds per frame by stage. Then what is left of a frame's cost without its flow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
SETS = {"rgb+flow": "rgb,flow", "all four": "rgb,flow,warped_flow,rgb_diff"}


def run(videos: Path, modalities: str, workers: int, *more: str) -> tuple[int, Counter[str], float]:
    """Frames, CPU seconds by stage, and frames per second over all workers."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        subprocess.run(
            [sys.executable, "-m", "flowpipe", "extract", "--videos", videos, "--out", store,
             "--workers", str(workers), "--modalities", modalities, *more],
            check=True, capture_output=True,
        )  # fmt: skip
        lines = [line for f in (store / "ledger").iterdir() for line in f.open()]
    outcomes = [json.loads(line) for line in lines]
    seconds: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    for outcome in outcomes:
        seconds.update(outcome["seconds"])
        busy[outcome["worker"]] += outcome["seconds"]["wall"]
    frames = sum(outcome["frames"] for outcome in outcomes)
    # Workers run side by side: the slowest one's busy time is the time of the extraction.
    return frames, seconds, frames / max(busy.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=SHARED / "clips" / "ucf101")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.videos}, 340x256, median of {arguments.runs} runs")
    print(
        f"{'modalities':12} {'workers':>7} {'frames':>7} {'frames/s':>9}  CPU ms per frame by stage"
    )
    rates = {}
    for name, modalities in SETS.items():
        for workers in (1, 2):
            results = [run(arguments.videos, modalities, workers) for _ in range(arguments.runs)]
            frames = results[0][0]
            rate = statistics.median(r[2] for r in results)
            rates[name, workers] = rate
            stages = {
                stage: 1e3 * statistics.median(r[1][stage] for r in results) / frames
                for stage in results[0][1]
                if stage != "wall"
            }
            words = ", ".join(f"{stage} {value:.2f}" for stage, value in stages.items())
            print(f"{name:12} {workers:7} {frames:7} {rate:9.1f}  {words}")
        print(f"{name:12} two workers give {rates[name, 2] / rates[name, 1]:.2f} x one")
    # The same run with a flow that costs next to nothing leaves everything besides flow.
    frames, seconds, _ = min(
        (run(arguments.videos, "rgb", 1) for _ in range(arguments.runs)),
        key=lambda r: sum(v for k, v in r[1].items() if k != "wall"),
    )
    rest = 1e3 * sum(v for k, v in seconds.items() if k != "wall") / frames
    print(f"rgb alone: {rest:.2f} CPU ms per frame for decode, resize, encode, write")


if __name__ == "__main__":
    main()
