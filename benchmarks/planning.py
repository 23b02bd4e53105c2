"""Plan a million videos from a list file: wall time and peak memory of `flowpipe plan`.

    python benchmarks/planning.py [--videos 1000000]

The list names real files. Many ids share a few real clips, so every line costs a stat call, as on a
real disk with a warm directory cache.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1_000_000)
    count = parser.parse_args().videos
    clips = sorted((SHARED / "clips" / "ucf101").resolve().rglob("*.avi"))
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "list.csv"
        with listed.open("w") as file:
            file.write("video_id,path\n")
            for k, clip in enumerate(islice(cycle(clips), count)):
                file.write(f"video-{k:07d},{clip}\n")
        began = time.monotonic()
        result = subprocess.run(
            [sys.executable, "-m", "flowpipe", "plan", "--videos", listed,
             "--out", Path(folder) / "store", "--workers", "8"],
            capture_output=True, text=True,
        )  # fmt: skip
        elapsed = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(result.stdout or result.stderr)
    print(f"{count} videos planned in {elapsed:.1f} s, peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
