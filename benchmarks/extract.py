"""Real clips -> end-to-end frames per second, CPU time by stage, and CPU time without the flow.

    python benchmarks/extract.py [--videos FOLDER] [--clips 4] [--runs 2]

Three tables, all at 340x256 with the default recipe, best of the runs:

Rate
    ``flowpipe extract`` as a user runs it, pinned to one core for one worker and to two for two.
    Frames per second are the sum over the workers while they work on their shards; start-up and the
    wait for the last shard are left out. The CPU time by stage comes from the ledger. On a machine
    that has other work, read the ratio by CPU time: twice the cost of a frame with one worker over
    that with two.
Worker
    One worker's task, `run.worker.shard_job.extract_shard`, in a process of its own with a worker's
    environment, on one core. Its CPU time is ``getrusage``: user and system time of all threads,
    with page faults, thread hand-over, checksums, publishing and fsync, after one clip to warm up.
    Flow is the time in `TVL1Solver.solve`, by ``CLOCK_THREAD_CPUTIME_ID``, user and system time of
    its thread, in the same run. The cost without the flow is the difference.
Run
    CPU time of every process of ``flowpipe extract --workers 1``, client, scheduler and check of
    the store included: that of all the clips less that of the first clip alone, per frame of
    difference, so that start-up cancels out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpipe import params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow.tvl1 import TVL1Solver
from flowpipe.run.cluster.settings import SETTINGS
from flowpipe.run.options import WorkerOptions
from flowpipe.run.planning.plan import ShardPlan
from flowpipe.run.worker.shard_job import ShardJob, extract_shard
from flowpipe.types import Span, VideoRecord

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
SETS = {"rgb+flow": "rgb,flow", "all four": "rgb,flow,warped_flow,rgb_diff"}
STAGES = ("decode", "compute", "camera", "encode", "write")


@dataclass(frozen=True)
class ExtractFigures:
    """Figures of one ``flowpipe extract``."""

    frames: int
    rate: float
    """Throughput of the workers while they work, frames per second."""
    stage_ms: dict[str, float]
    cpu_s: float
    """CPU time of all processes, seconds."""


def extract(
    clips: Sequence[Path], modalities: str, workers: int, cores: set[int]
) -> ExtractFigures:
    """Run the command on some clips, every process pinned to `cores`."""
    with tempfile.TemporaryDirectory() as folder:
        videos, store = Path(folder) / "videos", Path(folder) / "store"
        videos.mkdir()
        for clip in clips:
            (videos / clip.name).symlink_to(clip.resolve())
        before = children_cpu_s()
        subprocess.run(
            [sys.executable, "-m", "flowpipe", "extract", "--videos", videos, "--out", store,
             "--workers", str(workers), "--modalities", modalities],
            check=True, capture_output=True, preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        cpu_s = children_cpu_s() - before
        lines = [line for f in (store / "ledger").iterdir() for line in f.open()]
    seconds: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    busy_s: Counter[str] = Counter()
    for outcome in map(json.loads, lines):
        seconds.update(outcome["seconds"])
        frames[outcome["worker"]] += outcome["frames"]
        busy_s[outcome["worker"]] += outcome["seconds"]["wall"]
    total = sum(frames.values())
    return ExtractFigures(
        total,
        sum(frames[worker] / busy_s[worker] for worker in frames),
        {stage: 1e3 * seconds[stage] / total for stage in STAGES},
        cpu_s,
    )


def children_cpu_s() -> float:
    """Return the CPU time of all ended child processes and their children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_worker(clips: Sequence[Path], core: int) -> dict[str, float]:
    """Measure the CPU time of one worker process by stage, milliseconds per frame."""
    environment = {**os.environ, **SETTINGS["distributed.nanny.pre-spawn-environ"]}
    result = subprocess.run(
        [sys.executable, __file__, "--inside", *clips],
        check=True, stdout=subprocess.PIPE, env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


def inside(clips: Sequence[Path]) -> None:
    """Run the work of one worker in this process; print JSON."""
    solve, solve_s = TVL1Solver.solve, 0.0

    def measure_stage(*arguments: object) -> object:
        nonlocal solve_s
        began = time.thread_time()
        flow = solve(*arguments)  # type: ignore[arg-type]
        solve_s += time.thread_time() - began
        return flow

    TVL1Solver.solve = measure_stage  # type: ignore[method-assign,assignment]
    work(clips[:1])
    solve_s = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF)
    outcomes = work(clips)
    after = resource.getrusage(resource.RUSAGE_SELF)
    frames = sum(outcome.frames for outcome in outcomes)
    stages = {stage: sum(o.seconds[stage] for o in outcomes) for stage in STAGES}
    user_s, system_s = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    seconds = {
        "user": user_s,
        "system": system_s,
        "whole": user_s + system_s,
        "flow": solve_s,
        "besides flow": user_s + system_s - solve_s,
        "decode, resize": stages["decode"],
        "gray, prepare, quantise": stages["compute"] - solve_s,
        "encode": stages["encode"],
        "write": stages["write"],
        "hand-over, hash, publish": user_s + system_s - sum(stages.values()),
    }
    print(json.dumps({name: 1e3 * value / frames for name, value in seconds.items()}))


def work(clips: Sequence[Path]) -> list[object]:
    """Extract one shard of unsplit clips as a worker does; return the outcomes."""
    made = params.build(ExtractRecipe, {"modalities": ["rgb", "flow"]})
    spans = tuple(Span(VideoRecord(clip.stem, str(clip))) for clip in clips)
    with tempfile.TemporaryDirectory() as folder:
        shard = ShardPlan("shard-0", spans, 0, 0)
        return extract_shard(
            ShardJob(
                store=folder,
                heartbeat_folder=folder,
                shard=shard,
                recipe=made,
                device="cpu",
                options=WorkerOptions(on_error="fail"),
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=SHARED / "clips" / "ucf101")
    parser.add_argument(
        "--clips", type=int, default=4, help="number of clips, spread over the folder; 0 for all"
    )
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--inside", nargs="+", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.inside)
        return
    found = sorted(p for p in arguments.videos.rglob("*") if p.suffix in (".avi", ".mp4"))
    if not found:
        raise SystemExit(f"no .avi or .mp4 below {arguments.videos}; name a folder with --videos")
    count = min(arguments.clips or len(found), len(found))
    clips = [found[k * len(found) // count] for k in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    print(f"{count} of {len(found)} clips below {arguments.videos}, best of {arguments.runs} runs:")
    print("  " + " ".join(clip.stem for clip in clips))

    whole: list[ExtractFigures] = []
    rates: dict[tuple[str, int], float] = {}
    cpu_ms: dict[tuple[str, int], float] = {}
    print(f"\nRate\n{'modalities':10} {'workers':>7} {'frames':>7} {'frames/s':>9}  CPU ms a frame")
    for name, modalities in SETS.items():
        for workers in (1, 2):
            if workers > len(cores):
                continue
            pinned = set(cores[-workers:])
            runs = [extract(clips, modalities, workers, pinned) for _ in range(arguments.runs)]
            rate = rates[name, workers] = max(run.rate for run in runs)
            best = min(runs, key=lambda run: sum(run.stage_ms.values()))
            words = ", ".join(f"{stage} {ms:.2f}" for stage, ms in best.stage_ms.items())
            print(f"{name:10} {workers:7} {best.frames:7} {rate:9.1f}  {words}", flush=True)
            cpu_ms[name, workers] = sum(best.stage_ms.values())
            if not whole:
                whole = runs
        if (name, 2) in rates:
            by_clock = rates[name, 2] / rates[name, 1]
            by_cpu = 2 * cpu_ms[name, 1] / cpu_ms[name, 2]
            print(f"{name:10} two workers give {by_clock:.2f} x one, by CPU time {by_cpu:.2f}")

    measured = min(
        (measure_worker(clips, cores[-1]) for _ in range(arguments.runs)),
        key=lambda ms: ms["besides flow"],
    )
    print("\nWorker, rgb+flow, CPU ms a frame")
    for name, ms in measured.items():
        print(f"  {name:26} {ms:6.2f}")

    first = [extract(clips[:1], SETS["rgb+flow"], 1, {cores[-1]}) for _ in range(arguments.runs)]
    difference_s = min(run.cpu_s for run in whole) - min(run.cpu_s for run in first)
    frames = whole[0].frames - first[0].frames
    if frames:
        print(f"\nRun, rgb+flow: {1e3 * difference_s / frames:.2f} CPU ms a frame, all processes")


if __name__ == "__main__":
    main()
