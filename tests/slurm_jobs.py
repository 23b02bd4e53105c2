"""Jobs of a running Slurm, for tests of the job scripts."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable

import pytest


def require_slurm() -> None:
    """Skip the test unless a Slurm is running."""
    if shutil.which("sbatch") is None:
        pytest.skip("needs Slurm: no sbatch")
    states = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
    if not set(states.stdout.split()) & {"idle", "mixed", "allocated"}:
        said = (states.stderr.strip() or states.stdout.strip() or "no nodes").splitlines()[0]
        pytest.skip(f"needs a running Slurm: {said}")


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(480):
        if true():
            return
        time.sleep(0.5)
    raise TimeoutError("four minutes")


def states(job: str) -> dict[str, str]:
    """State of each task of a job that has been seen within Slurm's memory."""
    shown = subprocess.run(
        ["scontrol", "show", "job", job, "--oneliner"], capture_output=True, text=True
    )
    found = {}
    for line in shown.stdout.splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        found[facts.get("ArrayTaskId", "")] = facts["JobState"]
    return found


def ended(job: str) -> bool:
    return not set(states(job).values()) & {"PENDING", "RUNNING", "COMPLETING"}
