"""Clips extracted on a GPU: frames per second, and the share of time of each stage."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from folders import FLOWPIPE, Folders, Verdict, last_line, run, say
from watch import GpuMonitor

STAGES_APART = ("wall",)
"""Keys of an outcome's seconds that are not stages."""
FEWER = ["--size", "64x48", "--fps", "2", "--set", "flow.warps=1", "--set", "flow.iterations=4"]
"""Options that make an extraction tiny."""


def extraction(
    folders: Folders, name: str, modalities: str, workers: int | None, copies: int
) -> Verdict:
    """Extract clips on the GPU; without a number of workers also what `flowpipe plan` expects."""
    if folders.rehearse:
        copies, workers = 1, workers and min(workers, 2)
    videos = link(folders, name, folders.clips(), copies)
    options = ["--modalities", modalities, "--device", "cuda", "--gpus", "1"]
    options += ["--workers", str(workers)] if workers else []
    figures: dict[str, Any] = {}
    if workers is None:
        asked = run([*FLOWPIPE, "plan", "--videos", videos, "--out", folders.stores / "planned",
                     "--json", *common(folders), *options])  # fmt: skip
        if asked.returncode == 0:
            figures["plan"] = json.loads(asked.stdout)
    figures |= extract(folders, videos, name.replace(":", "-"), options)
    if "plan" in figures and figures["plan"]["hours"]:
        plan = figures["plan"]
        figures["planned_frames_per_s"] = round(plan["frames"] / plan["hours"] / 3600, 1)
    return Verdict(figures["ok"], describe(figures), figures)


def describe(figures: dict[str, Any]) -> str:
    """Describe the figures of an extraction in one line."""
    if not figures.get("frames"):
        return f"no frame was stored: {figures['said']}"
    busy = ", ".join(f"{stage} {share:.0%}" for stage, share in figures["busy"].items())
    planned = figures.get("planned_frames_per_s")
    gpu = figures["gpu"]
    return (
        f"{figures['frames_per_s']} frames/s with workers: {figures['workers']}"
        + (
            f" (plan: {planned} frames/s, bound by {figures['plan']['bound_by']})"
            if planned
            else ""
        )
        + f", {figures['frames']} frames in {figures['command_s']:.0f} s; busy: {busy}; "
        f"GPU {gpu.get('busy_%', '?')} %, {gpu.get('memory_MiB', '?')} MiB"
        + (f"; FAILED: {figures['failed'][0]}" if figures["failed"] else "")
    )


def common(folders: Folders) -> list[str]:
    """Return the options common to all extractions here."""
    detector = folders.settings.get("detector")
    return [*FEWER * folders.rehearse, *["--set", f"warp.detector={detector}"] * bool(detector)]


def link(folders: Folders, name: str, clips: list[Path], copies: int) -> Path:
    """Make a folder of links to clips, each several times, to keep many workers busy."""
    folder = folders.work / "videos" / name.replace(":", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for copy in range(copies):
        for clip in clips:
            (folder / f"{copy:02}-{clip.name}").symlink_to(clip.resolve())
    return folder


def extract(
    folders: Folders,
    videos: Path,
    name: str,
    options: list[Any],
    env: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Extract videos into ``stores/NAME`` by the command line; return the sums of its ledger."""
    out = folders.stores / name
    shutil.rmtree(out, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with GpuMonitor() as watch:
        command = [*FLOWPIPE, "extract", "--videos", videos, "--out", out]
        done = run([*command, *common(folders), *options], env)
    command_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    device = re.search(r"^device: (.*)$", done.stderr, re.M)
    lines = ledger(out)
    failed = [row["message"] for row in lines if row["status"] == "failed"]
    return {
        "ok": done.returncode == 0 and not failed,
        "said": last_line(done.stderr),
        "device": device[1] if device else "",
        "failed": failed[:5],
        "command_s": round(command_s, 1),
        "cores": round(cpu_s / command_s, 1),
        "gpu": watch.means(),
        **sum_ledger(lines),
    }


def ledger(store: Path) -> list[dict[str, Any]]:
    """Return the outcomes in a store's ledger."""
    return [json.loads(line) for path in store.glob("ledger/*.jsonl") for line in path.open()]


def sum_ledger(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the outcomes of a run.

    ``frames_per_s`` adds up the rates of the workers while they work, without the start and the end
    of the command. ``busy`` is the share of the workers' time in which each stage was at work, and
    ``busy_ms`` that time per frame.
    """
    cpu_s: Counter[str] = Counter()
    busy_s: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    wall_s: Counter[str] = Counter()
    for row in lines:
        cpu_s.update({k: v for k, v in row["seconds"].items() if k not in STAGES_APART})
        busy_s.update(row.get("busy_s", {}))
        frames[row["worker"]] += row["frames"]
        wall_s[row["worker"]] += row["seconds"].get("wall", 0.0)
    total, worked_s = frames.total(), max(1e-9, wall_s.total())
    each = max(1, total)
    return {
        "workers": len(frames),
        "frames": total,
        "frames_per_s": round(sum(frames[w] / wall_s[w] for w in frames if wall_s[w]), 1),
        "cpu_ms": {stage: round(1e3 * s / each, 3) for stage, s in cpu_s.items()},
        "busy_ms": {stage: round(1e3 * s / each, 3) for stage, s in busy_s.items()},
        "busy": {stage: round(s / worked_s, 3) for stage, s in busy_s.items()},
    }


@contextmanager
def mps_daemon(folder: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Start NVIDIA's Multi-Process Service for this step alone.

    Yields the environment of its clients and what the daemon said if it did not start.
    """
    shutil.rmtree(folder, ignore_errors=True)
    env = {**os.environ}
    for variable, name in (("PIPE", "pipe"), ("LOG", "log")):
        (folder / name).mkdir(parents=True)
        env[f"CUDA_MPS_{variable}_DIRECTORY"] = str(folder / name)
    control = ["nvidia-cuda-mps-control"]
    started = run([*control, "-d"], env, timeout_s=15)
    try:
        yield env, last_line(started.stdout + started.stderr) if started.returncode else ""
    finally:
        subprocess.run(control, input="quit\n", text=True, env=env, timeout=15, check=False)


def mps(folders: Folders) -> Verdict:
    """Extract as extract:16 does, with MPS; compare the rate with the one without."""
    if not shutil.which("nvidia-cuda-mps-control"):
        return Verdict(None, "there is no nvidia-cuda-mps-control")
    copies, workers = (1, 2) if folders.rehearse else (12, 16)
    videos = link(folders, "mps", folders.clips(), copies)
    options = ["--modalities", "rgb,flow", "--device", "cuda", "--gpus", "1", "--workers", workers]
    with mps_daemon(folders.work / "mps") as (env, fault):
        if fault:
            return Verdict(None, f"the MPS daemon does not start here: {fault}")
        figures = extract(folders, videos, "mps", options, env)
    for log in (folders.work / "mps" / "log").glob("*.log"):
        say(f"{log.name}:\n{log.read_text('utf-8', errors='replace')[-2000:]}")
    before = folders.work / "results" / "extract-16.json"
    alone = json.loads(before.read_text("utf-8"))["figures"] if before.exists() else {}
    figures["frames_per_s_without"] = alone.get("frames_per_s")
    words = f"with MPS {describe(figures)}; without: {figures['frames_per_s_without'] or 'not run'}"
    return Verdict(figures["ok"], words, figures)
