"""Steps that run flowpipe's own commands on a GPU: doctor, selftest, tests, bench flow."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from folders import FLOWPIPE, Folders, Verdict, last_line, run, say
from setting_up import versions

GPU_FACTS = ("name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm",
             "clocks.max.mem", "power.limit", "compute_mode")  # fmt: skip
TOOLS = (
    ("nvcc", "--version"), ("ncu", "--version"), ("compute-sanitizer", "--version"),
    ("g++", "--version"), ("free", "-g"), ("df", "-h", "/tmp"),
)  # fmt: skip
LIBRARIES = (
    "libcuda",
    "libnvcuvid",
    "libnvidia-opticalflow",
    "libnvidia-encode",
    "libnpp",
    "libjpeg",
)
TINY = ["--size", "24x16", "--pairs", "1", "--repeat", "1"]
"""Options that make `flowpipe bench flow` quick."""


def machine(folders: Folders) -> Verdict:
    """Record the machine: GPU, processor, driver, tools, libraries, packages."""
    for tool in TOOLS:
        run(tool) if shutil.which(tool[0]) else say(f"no {tool[0]}")
    if shutil.which("ldconfig"):
        found = run(["ldconfig", "-p"], quiet=True).stdout.splitlines()
        say("\n".join(line for line in found if any(name in line for name in LIBRARIES)))
    run([sys.executable, "-m", "pip", "list"])
    facts = {
        "cores": len(os.sched_getaffinity(0)),
        "memory_GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "glibc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "versions": versions(),
    }
    if not shutil.which("nvidia-smi"):
        return Verdict(False, "there is no nvidia-smi", facts)
    run(["nvidia-smi"])
    run(["nvidia-smi", "-q", "-d", "CLOCK,POWER,MEMORY"])
    asked = run(["nvidia-smi", f"--query-gpu={','.join(GPU_FACTS)}", "--format=csv,noheader"])
    gpus = [
        dict(zip(GPU_FACTS, map(str.strip, line.split(",")), strict=False))
        for line in asked.stdout.splitlines()
        if line.strip()
    ]
    facts["gpus"] = gpus
    if asked.returncode or not gpus:
        return Verdict(False, f"no GPU answers nvidia-smi: {last_line(asked.stdout)}", facts)
    first = gpus[0]
    words = (
        f"{len(gpus)} x {first['name']}, driver {first['driver_version']}, {facts['cores']} cores"
    )
    return Verdict(True, words, facts)


def doctor(folders: Folders) -> Verdict:
    """Run `flowpipe doctor`; fail if a required part is broken."""
    run([*FLOWPIPE, "doctor", "--out", folders.work])
    asked = run([*FLOWPIPE, "doctor", "--out", folders.work, "--json"], quiet=True)
    rows = json.loads(asked.stdout)
    gpus = [row["found"] for row in rows if row["topic"].startswith("GPU ")]
    lacks = [row["topic"] for row in rows if row["state"] != "ok"]
    words = f"{'; '.join(gpus) or 'no GPU'}; lacks: {', '.join(lacks) or 'nothing'}"
    return Verdict(asked.returncode == 0, words, {"findings": rows})


def selftest(folders: Folders) -> Verdict:
    """Run `flowpipe selftest` on every GPU."""
    tiny = ["--size", "32x24"]
    for name in ("gray", "upsample", "tvl1_warps opencv2", "memory"):
        tiny += ["--only", name]
    done = run([*FLOWPIPE, "selftest", "--device", "cuda", "--json", *tiny * folders.rehearse])
    if done.returncode not in (0, 1):
        return Verdict(False, f"exit code {done.returncode}: {last_line(done.stderr)}")
    reports = json.loads(done.stdout)
    checks = [check for report in reports for check in report["checks"]]
    failed = [check["name"] for check in checks if check["passed"] is False]
    skipped = [check["name"] for check in checks if check["passed"] is None]
    words = f"{len(checks) - len(failed) - len(skipped)} checks passed"
    words += f", FAILED: {', '.join(failed)}" * bool(failed)
    words += f", not run: {', '.join(skipped)}" * bool(skipped)
    return Verdict(done.returncode == 0, words, {"gpus": reports})


def parity(folders: Folders) -> Verdict:
    """Run the tests marked ``cuda``; a missing GPU fails them."""
    report = folders.work / "parity.xml"
    report.unlink(missing_ok=True)
    few = ["-k", "test_gray and gpu", "tests/ops/test_parity.py"] * folders.rehearse
    # Not -x: on a machine that is rarely at hand every failure is worth knowing.
    done = run(
        [sys.executable, "-m", "pytest", "-m", "cuda", "-n", "1" if folders.rehearse else "4",
         "--maxfail", "20", "--timeout", "120", "--tb", "short", "-p", "no:cacheprovider", "-rs",
         "--durations", "5", "--junitxml", report, *few],
        {**os.environ, "FLOWPIPE_REQUIRE_CUDA": "1"},
    )  # fmt: skip
    if not report.exists():
        return Verdict(
            False, f"exit code {done.returncode}: {last_line(done.stdout + done.stderr)}"
        )
    counts, details = read_junit(report)
    for line in details:
        say(line)
    words = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    sound = done.returncode == 0 and counts["passed"] > 0
    return Verdict(sound, words or "no tests", {**counts, "details": details[:60]})


def read_junit(path: Path) -> tuple[dict[str, int], list[str]]:
    """Read pytest's report: counts by result, and a line for each test that did not pass."""
    counts: Counter[str] = Counter()
    details = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        result = next((c for c in case if c.tag in ("failure", "error", "skipped")), None)
        what = "passed" if result is None else result.tag.replace("failure", "failed")
        counts[what] += 1
        if result is not None:
            reason = last_line(result.get("message") or "")
            details.append(f"{what} {case.get('classname')}::{case.get('name')}: {reason}"[:300])
    return {what: counts[what] for what in ("passed", "failed", "error", "skipped")}, details


def flow(folders: Folders) -> Verdict:
    """Run `flowpipe bench flow` on the GPU's algorithms."""
    path = folders.work / "flow.json"
    path.unlink(missing_ok=True)
    videos = [*TINY, "--only", "flowpipe-opencv2-cuda"] if folders.rehearse else folders.clips()
    done = run([*FLOWPIPE, "bench", "flow", "--device", "cuda", "--json", path, *videos])
    if done.returncode or not path.exists():
        return Verdict(False, f"exit code {done.returncode}: {last_line(done.stderr)}")
    found = json.loads(path.read_text(encoding="utf-8"))
    best = max(found["batches"], key=lambda batch: batch["pairs_per_s"], default=None)
    if best is None:
        return Verdict(False, "no batch was measured", found)
    share = f", {best['share']:.1%} of the peak" if best["share"] is not None else ""
    rows = [f"{r['name']} {r['pairs_per_s']:.0f}" for r in found["rows"] if "pairs_per_s" in r]
    lacks = [row["name"] for row in found["rows"] if "reason" in row]
    words = (
        f"opencv2 {best['pairs_per_s']:.0f} pairs/s with {best['pairs']} in a call{share}; "
        f"pairs/s: {', '.join(rows)}; not run: {', '.join(lacks) or 'none'}"
    )
    return Verdict(True, words, found)


def tune(folders: Folders) -> Verdict:
    """Run `flowpipe bench flow --tune`: pairs/s by settings of the schedule, those in use first."""
    path = folders.work / "tune.json"
    path.unlink(missing_ok=True)
    videos = TINY if folders.rehearse else folders.clips()
    done = run([*FLOWPIPE, "bench", "flow", "--device", "cuda", "--tune", "--json", path, *videos])
    if done.returncode or not path.exists():
        return Verdict(False, f"exit code {done.returncode}: {last_line(done.stderr)}")
    found = json.loads(path.read_text(encoding="utf-8"))
    used, best = found["settings"][0], max(found["settings"], key=lambda row: row["pairs_per_s"])
    words = f"best of {len(found['settings'])}: {best['pairs_per_s']:.0f} pairs/s with "
    words += f"{best['settings']}; with those in use {used['pairs_per_s']:.0f}"
    return Verdict(True, words, found)
