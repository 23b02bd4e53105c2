"""Stop a run on clips at random times by SIGTERM or kill -9 -> finished work that is lost.

    python benchmarks/preempt.py [--runs 10] [--publish-every 3] [--seed 0]

A worker records in its heartbeat how many videos of its job it has finished. Videos that were
finished just before the signal and are not in the store afterwards are lost, with the seconds that
they took. The unfinished video is not counted: no run keeps it. kill -9 is sent to the client and
all workers at once. For each signal the program prints lost videos and seconds per worker, median
and maximum, and the seconds from the signal to the end of the last process. With --publish-every
60, the default of flowpipe, runs have to take minutes: --clips 2000.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from flowpipe import open_store

WORKERS = 2


def make_clips(folder: Path, count: int) -> None:
    """Write clips of a second of drifting noise."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    for clip in range(count):
        with av.open(str(folder / f"clip-{clip:05}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height = 160, 120
            for frame in range(25):
                moved = scene[frame : frame + 120, frame : frame + 160]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
            container.mux(stream.encode())


def underway(store: Path) -> list[list[str]]:
    """Return the videos that each worker has finished in its current job, in order."""
    found = []
    for path in store.glob("running/*/shard-*.json"):
        try:
            beat = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        first = int(beat["video_id"][5:10]) - beat["position"] if beat["video_id"] else 0
        found.append([f"clip-{first + k:05}.mp4" for k in range(max(0, beat["position"]))])
    return found


def end_of_session(session: int) -> None:
    """Wait until no process of a session is left."""
    while subprocess.run(["pgrep", "-s", str(session)], capture_output=True).returncode == 0:
        time.sleep(0.05)


def preempt(
    videos: Path, store: Path, number: int, after_s: float, every_s: float
) -> tuple[list[int], float]:
    """Stop one run; return the finished videos lost by each worker, and seconds to its end."""
    process = subprocess.Popen(
        command(videos, store, every_s), stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not underway(store):
        time.sleep(0.02)
    time.sleep(after_s)
    finished, began = underway(store), time.monotonic()
    os.killpg(process.pid, number)
    process.wait()
    end_of_session(process.pid)
    took = time.monotonic() - began
    kept = set(open_store(store).videos)
    return [len(set(ids) - kept) for ids in finished], took


def command(videos: Path, store: Path, every_s: float) -> list[str]:
    return [
        sys.executable, "-m", "flowpipe", "extract", "--videos", str(videos), "--out", str(store),
        "--workers", str(WORKERS), "--publish-every", str(every_s), "--size", "96x72",
        "--set", "flow=dis",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--publish-every", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        videos = Path(scratch) / "videos"
        videos.mkdir()
        make_clips(videos, options.clips)
        store = Path(scratch) / "whole"
        whole = command(videos, store, options.publish_every)
        subprocess.run(whole, check=True, stderr=subprocess.DEVNULL)
        lines = [json.loads(s) for f in (store / "ledger").iterdir() for s in f.open()]
        video_s = statistics.mean(line["seconds"]["wall"] for line in lines)
        work_s = video_s * options.clips / WORKERS
        shards = len(list((store / "shards").glob("shard-*.h5")))
        print(
            f"{options.clips} clips of {video_s:.2f} s, {WORKERS} workers: {shards} shards",
            flush=True,
        )
        for number in (signal.SIGTERM, signal.SIGKILL):
            lost, seconds = [], []
            for run in range(options.runs):
                store = Path(scratch) / f"{number.name}-{run}"
                after_s = rng.uniform(0.0, 0.9 * work_s)
                each, took = preempt(videos, store, number, after_s, options.publish_every)
                lost += each
                seconds.append(took)
            print(
                f"{number.name}: {options.runs} runs; lost per worker: median "
                f"{statistics.median(lost):g}, most {max(lost)} videos; median "
                f"{statistics.median(lost) * video_s:.1f}, most {max(lost) * video_s:.1f} s; "
                f"ended after {statistics.median(seconds):.1f} s, at most {max(seconds):.1f}"
            )


if __name__ == "__main__":
    main()
