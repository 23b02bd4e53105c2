"""Stores of many videos -> time and memory to open them: index current, or one shard behind.

    python benchmarks/opens.py [--videos 10000 100000 1000000] [--per-shard 100] [--work DIR]

Shards are real but hold one image of 2x2 pixels a video; ids and metas are as long as UCF101's.
Each row is a process of its own: CPU seconds of `open_store` (minimum of three), wall seconds of
the last run, and the process's peak of resident memory, mapped pages included, in MB beyond the
imports. A store whose index is one shard behind is opened without writing the index
(``refresh=False``), so every repetition costs the same.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe import codec, params
from flowpipe.store import ShardWriter, StreamSpec, create_store, open_store
from flowpipe.types import EncodedPlanes, Interval, Span, VideoRecord

RECIPE = {"modalities": ["rgb"]}
FACTS = {
    "container": "avi", "codec": "mpeg4", "pixel_format": "yuv420p", "width": 320, "height": 240,
    "decoder": "PyAV 15.0.0 libavcodec 61.19.101 mpeg4", "sizes": [[320, 240]], "rotation_deg": 0,
    "colour_matrix": "bt601", "colour_range": "limited", "colour_transfer": "", "fps_in": 25.0,
    "interlaced": False, "frames_decoded": 164, "frames_dropped": 0, "fps_out": 0.0, "start_s": 0.0,
    "notes": ["colour_untagged"],
}  # fmt: skip
PROBE = """
import resource, sys, time
from flowpipe.store import open_store
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cpu, wall = time.process_time(), time.perf_counter()
store = open_store(sys.argv[1], refresh=False)
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(cpu, wall, (peak - base) / 1024, len(store.videos))
"""


def video_of(k: int) -> tuple[VideoRecord, dict[str, Any]]:
    """Return the record and source of one video, with names as long as UCF101's; no file exists."""
    video_id = f"v_ApplyEyeMakeup_g{k % 25:02d}_c{k:07d}"
    path = f"/data/ucf101/UCF-101/ApplyEyeMakeup/{video_id}.avi"
    segments = (Interval(k % 101, 1.0, 2.0),)
    record = VideoRecord(
        video_id, path, labels=(k % 101,), subset="", splits=("train1",), segments=segments
    )
    return record, {"bytes": 300_000 + k, "mtime_ns": 10**18 + k, "sha256": f"{k:064x}"}


def write_shard(
    store: Path,
    number: int,
    per_shard: int,
    made_with: Any = RECIPE,
    video: Callable[[int], tuple[VideoRecord, dict[str, Any]]] = video_of,
) -> None:
    """Write one shard of small videos; `video` returns record and source by number."""
    payloads = codec.encode(np.zeros((1, 3, 2, 2), np.uint8), codec.RawParams())
    with ShardWriter(
        store / "shards" / f"shard-{number * 2654435761 % (1 << 32):012x}.h5",
        recipe=params.canonical(made_with), recipe_digest=params.digest(made_with),
        backend={"ops": "none"}, streams={"rgb": StreamSpec(codec.RawParams())},
    ) as writer:  # fmt: skip
        for k in range(number * per_shard, (number + 1) * per_shard):
            record, source = video(k)
            writer.begin(Span(record))
            writer.append(EncodedPlanes("rgb", payloads, 2, 2))
            writer.append_pts([0.0])
            writer.commit({"source": source, "facts": FACTS})
        writer.publish()


def measure(store: Path, repeats: int = 3) -> str:
    """Return a row of figures."""
    rows = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(store)], capture_output=True, text=True, check=True
        )
        rows.append([float(word) for word in done.stdout.split()])
    cpu = min(row[0] for row in rows)
    return f"{cpu:8.2f} {rows[-1][1]:8.2f} {rows[-1][2]:8.0f} {rows[-1][3]:9.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--per-shard", type=int, default=100)
    parser.add_argument("--work", type=Path, help="folder; an existing store is extended")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="opens-"))
    store = work / "store"
    create_store(
        store, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE), dataset={},
        class_names=[str(k) for k in range(101)],
    )  # fmt: skip
    print(f"{'videos':>8} {'index':>10} {'CPU s':>8} {'wall s':>8} {'MB':>8} {'whole':>9}")
    made = len(list((store / "shards").iterdir()))
    for videos in arguments.videos:
        for number in range(made, videos // arguments.per_shard):
            write_shard(store, number, arguments.per_shard)
        made = max(made, videos // arguments.per_shard)
        began = time.perf_counter()
        open_store(store)
        print(f"{videos:8d} {'made':>10} {'':8} {time.perf_counter() - began:8.2f}", flush=True)
        print(f"{videos:8d} {'good':>10} {measure(store)}", flush=True)
        write_shard(store, made, arguments.per_shard)
        made += 1
        print(f"{videos:8d} {'one behind':>10} {measure(store)}", flush=True)
        began = time.process_time()
        open_store(store)
        print(f"{videos:8d} {'rewritten':>10} {time.process_time() - began:8.2f}", flush=True)
    megabytes = (store / "index.h5").stat().st_size / 1e6
    print(f"index.h5 of {made * arguments.per_shard} videos: {megabytes:.0f} MB")
    if arguments.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
