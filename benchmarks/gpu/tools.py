"""NVIDIA's own tools on flowpipe's kernels: compute-sanitizer and Nsight Compute."""

from __future__ import annotations

import csv
import os
import re
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from folders import Folders, Verdict, last_line, run, say

ERRORS = re.compile(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard")
METRICS = {
    "Duration": "duration", "Compute (SM) Throughput": "sm_%", "Memory Throughput": "memory",
    "DRAM Throughput": "dram_%", "L2 Hit Rate": "l2_hit_%", "Registers Per Thread": "registers",
    "Achieved Occupancy": "occupancy_%", "Theoretical Occupancy": "possible_occupancy_%",
    "Executed Ipc Active": "ipc", "No Eligible": "no_eligible_%",
}  # fmt: skip
"""Nsight Compute's metrics -> names in figures.json."""
PROFILED = {"tvl1_tile": ["--scales", "1"], "tvl1_level": []}
"""Kernel -> options of ``gpu_probes.py solve`` by which its first launches have work to do: with
one scale the tiles of full size come first."""
LAUNCHES = 6


def sanitize(folders: Folders, tool: str) -> Verdict:
    """Run a tool of compute-sanitizer on groups of self test operations while time is left."""
    if not shutil.which("compute-sanitizer"):
        return Verdict(None, "there is no compute-sanitizer")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the self test of one GPU is one process
    groups = check_groups()
    if folders.rehearse:
        groups = groups[:1]
    size = "34x26" if folders.rehearse else "70x48"
    script = Path(__file__).with_name("hand_over.py")
    errors, took_s = 0, 0.0
    done: list[str] = []
    for group in groups:
        if done and folders.left_s() < 1.5 * took_s:
            break
        began = time.monotonic()
        chosen = [word for name in group for word in ("--only", name)]
        ran = run(
            ["compute-sanitizer", "--tool", tool, "--print-limit", "20", "--error-exitcode", "9",
             sys.executable, script, "plain",
             "selftest", "--device", "cuda", "--size", size, *chosen],
            timeout_s=max(1.0, folders.left_s() - 2),
        )  # fmt: skip
        took_s = time.monotonic() - began
        counted = [int(a or b) for a, b in ERRORS.findall(ran.stdout + ran.stderr)]
        if not counted:
            return Verdict(False, f"{tool} said no summary: {last_line(ran.stdout + ran.stderr)}")
        errors += sum(counted)
        done += group
        if ran.returncode not in (0, 9):
            return Verdict(False, f"exit code {ran.returncode}: {last_line(ran.stdout)}")
    left_out = [name for group in groups for name in group if name not in done]
    words = f"{tool}: {errors} errors in {len(done)} checks"
    words += f"; no time for {', '.join(left_out)}" * bool(left_out)
    return Verdict(errors == 0, words, {"errors": errors, "checks": done, "left_out": left_out})


def check_groups() -> list[list[str]]:
    """Return names of the self test's checks that run every kernel, cheap ones first."""
    from flowpipe.diagnose.selftest import CHECKS

    warps = [name for name in CHECKS if name.startswith("tvl1_warps ")]
    flows = [name for name in CHECKS if name == "tvl1 opencv2"]
    later = ("tvl1 ", "same bytes", "memory")
    single = [name for name in CHECKS if name not in warps and not name.startswith(later)]
    return [single, warps, flows]


def profile(folders: Folders) -> Verdict:
    """Profile launches of TV-L1's kernels; the clocks of the machine are not changed."""
    if not shutil.which("ncu"):
        return Verdict(None, "there is no ncu")
    script = Path(__file__).with_name("gpu_probes.py")
    tiny = ["--pairs", "1", "--size", "32x24"] if folders.rehearse else []
    kernels: dict[str, dict[str, Any]] = {}
    for name, options in PROFILED.items():
        log = folders.logs / f"ncu-{name}.csv"
        ran = run(["ncu", "--clock-control", "none", "--set", "full", "--csv", "--log-file", log,
                   "--kernel-name", name, "--launch-count", LAUNCHES,
                   sys.executable, script, "solve", *tiny, *options])  # fmt: skip
        text = log.read_text("utf-8", errors="replace") if log.exists() else ""
        if "ERR_NVGPUCTRPERM" in text + ran.stdout:
            return Verdict(None, "the driver lets only administrators read the GPU's counters")
        found = read_ncu(text)
        if ran.returncode or not found:
            words = f"exit code {ran.returncode}: {last_line(text or ran.stderr)}"
            return Verdict(False, f"{name}: {words}", kernels)
        kernels |= found
    for name, metrics in kernels.items():
        say(name, metrics)
    words = "; ".join(
        f"{name} {m.get('duration', '?')} {m.get('duration_unit', '')}, SM {m.get('sm_%', '?')} %, "
        f"DRAM {m.get('dram_%', '?')} %, occupancy {m.get('occupancy_%', '?')} %, "
        f"{m.get('registers', '?')} registers"
        for name, m in kernels.items()
    )
    return Verdict(True, words, kernels)


def read_ncu(text: str) -> dict[str, dict[str, Any]]:
    """Read Nsight Compute's CSV: by kernel, the median of each metric over its launches."""
    start = text.find('"ID"')
    if start < 0:
        return {}
    values: dict[str, dict[str, list[float]]] = {}
    units: dict[tuple[str, str], str] = {}
    for row in csv.DictReader(text[start:].splitlines()):
        name = METRICS.get(row.get("Metric Name") or "")
        kernel = (row.get("Kernel Name") or "").partition("(")[0]
        value = (row.get("Metric Value") or "").replace(",", "")
        # Memory Throughput is listed twice, in % and in bytes a second.
        if name == "memory":
            name = "memory_%" if row.get("Metric Unit") == "%" else "memory"
        if not name or not re.fullmatch(r"-?[\d.]+", value):
            continue
        values.setdefault(kernel, {}).setdefault(name, []).append(float(value))
        units[kernel, name] = row.get("Metric Unit") or ""
    found: dict[str, dict[str, Any]] = {}
    for kernel, metrics in values.items():
        found[kernel] = {name: statistics.median(numbers) for name, numbers in metrics.items()}
        for name in ("duration", "memory"):
            if name in metrics:
                found[kernel][f"{name}_unit"] = units[kernel, name]
    return found
