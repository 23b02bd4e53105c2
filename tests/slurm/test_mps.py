"""Job scripts run MPS, which lets the workers of a GPU compute side by side."""

from __future__ import annotations

import os
import subprocess

import pytest
from slurm_jobs import SCRIPTS, write_tools


@pytest.mark.parametrize(
    "gpus, cores, environment, said",
    [
        (1, 2, {}, ["control -d  of GPU-3", "client there of GPU-3", "control  quit of GPU-3"]),
        (
            2,
            4,
            {},
            ["control -d  of GPU-3,GPU-5", "client there of GPU-3,GPU-5", "control  quit of"],
        ),
        (2, 2, {}, ["client none of 3,5"]),
        (1, 2, {"FLOWPIPE_MPS": "no"}, ["client none of 3"]),
        (1, 2, {"CUDA_MPS_PIPE_DIRECTORY": "/site"}, ["client none of 3"]),
        (
            1,
            2,
            {"MPS_FAILS": "1"},
            ["control -d  of GPU-3", "client none of 3", "control  quit of 3"],
        ),
        (0, 2, {}, ["client none of "]),
    ],
)
def test_array_runs_mps_where_workers_share_gpus(gpus, cores, environment, said, tmp_path):
    """A daemon of the task's own, for its GPUs alone, by names that do not depend on who counts."""
    write_tools(tmp_path / "bin")
    task = {
        "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "1", "SLURM_ARRAY_TASK_COUNT": "1",
        "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": str(cores),
        "SLURM_GPUS_ON_NODE": str(gpus), "CUDA_VISIBLE_DEVICES": ",".join(["3", "5"][:gpus]),
    }  # fmt: skip
    (tmp_path / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [SCRIPTS / "array.sh"], env=kept | task | own | environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 3, "the script ends as its client does"
    lines = (tmp_path / "said").read_text().splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(words) for line, words in zip(lines, said, strict=True)), lines
    assert ("take turns" in done.stderr) == ("MPS_FAILS" in environment)
    assert not list((tmp_path / "tmp").iterdir()), "what it made is gone"


SRUN = """#!/bin/bash
# Tasks of a step: those asked for, else all of the job.
tasks=$SLURM_NTASKS
while [[ $1 == --* ]]; do [[ $1 == --ntasks=* ]] && tasks=${1#*=}; shift; done
for ((id = 0; id < tasks; id++)); do SLURM_LOCALID=$id SLURMD_NODENAME=here "$@" & done
wait
"""


DASK = """#!/bin/sh
[ "$1" = worker ] || exit 0
control=none; [ -e "${CUDA_MPS_PIPE_DIRECTORY:-/none}/control" ] && control=there
echo "client $control of $CUDA_VISIBLE_DEVICES" >>"$FOLDER/said"
"""


CLUSTER_CLIENT = """#!/bin/sh
[ "$1" = cluster ] && exec mkdir "$3"
until [ $(grep -c client "$FOLDER/said") -ge $SLURM_NTASKS ]; do sleep 0.05; done
exit 3
"""


@pytest.mark.parametrize(
    "gpus, tasks, environment, clients, ends",
    [
        (1, 2, {}, ["there of GPU-3"] * 2, ["-d  of GPU-3", " quit of GPU-3"]),
        (
            2,
            4,
            {},
            ["there of GPU-3"] * 2 + ["there of GPU-5"] * 2,
            ["-d  of GPU-3,GPU-5", " quit of GPU-3,GPU-5"],
        ),
        (2, 2, {}, ["none of 3", "none of 5"], []),
        (1, 2, {"FLOWPIPE_MPS": "no"}, ["none of 3"] * 2, []),
        (1, 2, {"CUDA_MPS_PIPE_DIRECTORY": "/site"}, ["none of 3"] * 2, []),
        (1, 2, {"MPS_FAILS": "1"}, ["none of 3"] * 2, ["-d  of GPU-3"]),
        (0, 2, {}, ["none of "] * 2, []),
    ],
)
def test_dask_runs_mps_where_workers_share_gpus(gpus, tasks, environment, clients, ends, tmp_path):
    """A daemon on the node before the first worker, ended after the last one."""
    tools = tmp_path / "bin"
    write_tools(tools)
    for name, text in {"srun": SRUN, "dask": DASK, "flowpipe": CLUSTER_CLIENT}.items():
        (tools / name).write_text(text.replace("$FOLDER", str(tmp_path)))
        (tools / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": "7", "SLURM_NTASKS": str(tasks), "SLURM_TASKS_PER_NODE": f"{tasks}(x1)",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": str(gpus),
        "CUDA_VISIBLE_DEVICES": ",".join(["3", "5"][:gpus]),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path / "tmp"),
    }  # fmt: skip
    (tmp_path / "tmp").mkdir()
    (tmp_path / "said").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    done = subprocess.run(
        [SCRIPTS / "dask.sh"], env=kept | job | environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, ""), "the script ends as its client does"
    lines = (tmp_path / "said").read_text().splitlines()
    workers = [f"client {words}" for words in clients]
    begin, end = ([f"control {words}" for words in part] for part in (ends[:1], ends[1:]))
    middle = lines[len(begin) : len(lines) - len(end)]
    assert (lines[: len(begin)], sorted(middle)) == (begin, workers), lines
    assert lines[len(lines) - len(end) :] == end, lines
    log = (tmp_path / "flowpipe-7.dask.log").read_text()
    assert ("take turns" in log) == ("MPS_FAILS" in environment), log
    assert not list((tmp_path / "tmp").iterdir()) and not list(tmp_path.glob("*.cluster"))
