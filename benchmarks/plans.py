"""A store of many videos -> time and memory to plan the same extraction again.

    python benchmarks/plans.py [--videos 100000 1000000] [--per-shard 1000] [--work DIR]

Shards are those of ``opens.py``: one image of 2x2 pixels a video. The videos share 101 sources,
so each costs its stat call as on a disk with a warm directory cache. Each row is a process of its
own: CPU seconds to read the list and to plan, and the peak of resident memory after each in MB
beyond the imports.

``done``: nothing has changed. ``labels``: one video in a hundred has another label. ``replaced``:
one source file has other bytes, so one video in 101 is hashed and planned again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from opens import video_of, write_shard

from flowpipe import params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.store import create_store
from flowpipe.types import VideoRecord

RECIPE = ExtractRecipe(modalities=("rgb",))
SOURCES = 101
PROBE = """
import resource, sys, time
from pathlib import Path
from flowpipe.datasets import listfile
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run import ExtractJob, RunOptions, plan_run

def now():
    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

began, base = now()
dataset = listfile.load(Path(sys.argv[1]))
listed, list_peak = now()
recipe, options = ExtractRecipe(modalities=("rgb",)), RunOptions(Path(sys.argv[2]))
plan = plan_run(ExtractJob(dataset, {}, recipe, options))
planned, peak = now()
kinds = dict(plan.changes.kinds)
print(listed - began, planned - listed, list_peak - base, peak - base, plan.done, plan.spans)
print(f"{len(plan.changes.replaced)} replaced, {kinds}")
"""


def make_sources(folder: Path) -> Callable[[int], tuple[VideoRecord, dict[str, Any]]]:
    """Return a function that gives record and source of a video by number; the source exists."""
    facts = {}
    for k in range(SOURCES):
        path = folder / f"{k}.avi"
        status, sha256 = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
        facts[k] = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256}

    def video(k: int) -> tuple[VideoRecord, dict[str, Any]]:
        record, _ = video_of(k)
        path = str(folder / f"{k % SOURCES}.avi")
        return replace(record, path=path, segments=()), facts[k % SOURCES]

    return video


def write_list(path: Path, videos: int, folder: Path, relabelled: int = 0) -> None:
    """List the videos; every `relabelled`-th has another label."""
    with path.open("w") as file:
        file.write("video_id,path,label,split\n")
        for k in range(videos):
            label = (k + (relabelled > 0 and k % relabelled == 0)) % 101
            file.write(f"{video_of(k)[0].video_id},{folder}/{k % SOURCES}.avi,{label},train1\n")


def measure(listed: Path, store: Path) -> str:
    """Return a row of figures."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(listed), str(store)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    list_s, plan_s, list_mb, plan_mb, finished, spans = map(float, first.split())
    return (
        f"{list_s:8.2f} {plan_s:8.2f} {list_mb:8.0f} {plan_mb:8.0f} {finished:9.0f} {spans:9.0f}  "
        f"{second}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--per-shard", type=int, default=1000)
    parser.add_argument("--work", type=Path, help="folder; an existing store is extended")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="plans-"))
    store, folder, listed = work / "store", work / "videos", work / "list.csv"
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(SOURCES):
        if not (folder / f"{k}.avi").exists():
            (folder / f"{k}.avi").write_bytes(b"no video" * (1 << 12))
    create_store(
        store, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE), dataset={},
        class_names=[str(k) for k in range(101)],
    )  # fmt: skip
    columns = ("list s", "plan s", "list MB", "plan MB", "done", "to do")
    print(f"{'videos':>8} {'':>10} {' '.join(f'{c:>8}' for c in columns[:4])}", end="")
    print(f" {columns[4]:>9} {columns[5]:>9}")
    made = len(list((store / "shards").iterdir()))
    for videos in arguments.videos:
        for number in range(made, videos // arguments.per_shard):
            write_shard(store, number, arguments.per_shard, RECIPE, make_sources(folder))
        made = max(made, videos // arguments.per_shard)
        write_list(listed, videos, folder)
        measure(listed, store)  # makes the index
        print(f"{videos:8d} {'done':>10} {measure(listed, store)}", flush=True)
        write_list(listed, videos, folder, relabelled=100)
        print(f"{videos:8d} {'labels':>10} {measure(listed, store)}", flush=True)
        write_list(listed, videos, folder)
        changed = folder / "0.avi"
        status = changed.stat()
        changed.write_bytes(b"other one" * (1 << 12))
        print(f"{videos:8d} {'replaced':>10} {measure(listed, store)}", flush=True)
        changed.write_bytes(b"no video" * (1 << 12))
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    if arguments.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
