"""Jobs of a running Slurm, for tests of the job scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import ROOT

SCRIPTS = ROOT / "pipelines" / "slurm"
CLIPS = 8
"""Videos that jobs extract."""

MPS_CONTROL = """#!/bin/sh
echo "control $* $(cat) of $CUDA_VISIBLE_DEVICES" >>"$FOLDER/said"
[ "$1" != -d ] || [ -z "$MPS_FAILS" ] || exit 1
[ "$1" = -d ] && touch "$CUDA_MPS_PIPE_DIRECTORY/control"
[ "$1" = -d ] && echo "$CUDA_MPS_PIPE_DIRECTORY" >"$FOLDER/pipes"
exit 0
"""

NVIDIA_SMI = """#!/bin/sh
for last; do :; done
for id in $(echo "${last#--id=}" | tr , ' '); do echo "GPU-$id"; done
"""

CLIENT = """#!/bin/sh
control=none; [ -e "${CUDA_MPS_PIPE_DIRECTORY:-/none}/control" ] && control=there
echo "client $control of $CUDA_VISIBLE_DEVICES" >>"$FOLDER/said"
exit 3
"""


END_STATES = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "TIMEOUT",
}  # fmt: skip


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
    """Return the state of each task of a job that Slurm still knows."""
    shown = subprocess.run(
        ["scontrol", "show", "job", job, "--oneliner"], capture_output=True, text=True
    )
    if shown.returncode and "Invalid job id" not in shown.stderr:
        return {"": "UNKNOWN"}  # a busy controller does not answer
    found = {}
    for line in shown.stdout.splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        found[facts.get("ArrayTaskId", "")] = facts["JobState"]
    return found


def described(job: str) -> str:
    """Return what Slurm says of a job."""
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True)
    return shown.stdout + shown.stderr


def has_ended(job: str) -> bool:
    """Return whether all tasks of a job have ended; there are many states on the way there."""
    return set(states(job).values()) <= END_STATES


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("flowpipe-*.log")))


def read_arguments(submit, folder: Path, script: str, *options: str) -> str:
    """Return the arguments of `flowpipe extract` in a job script; `then` is run in its place."""
    (folder / "bin" / "flowpipe").write_text(
        f"""#!/bin/sh
[ "$1" = extract ] || exec "{sys.executable}" -m flowpipe "$@"
echo "$@"
exec "{sys.executable}" {folder / "then.py"} "$@"
"""
    )
    job = submit(script, *options)
    wait_until(lambda: has_ended(job))
    assert set(states(job).values()) == {"COMPLETED"}, logs(folder)
    return logs(folder)


def write_tools(folder: Path) -> None:
    """Stand-ins that write what they are told, and by whom, to `said` beside their folder."""
    folder.mkdir(exist_ok=True)
    tools = {"nvidia-cuda-mps-control": MPS_CONTROL, "nvidia-smi": NVIDIA_SMI, "flowpipe": CLIENT}
    for name, text in tools.items():
        (folder / name).write_text(text.replace("$FOLDER", str(folder.parent)))
        (folder / name).chmod(0o755)


def write_flowpipe(folder: Path, text: str) -> dict[str, str]:
    """Put a `flowpipe` into a folder; the environment that finds it."""
    folder.mkdir()
    (folder / "flowpipe").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "flowpipe").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
