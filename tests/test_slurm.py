"""Job scripts of pipelines/slurm: their settings, and real jobs where a Slurm is running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import command, moving_clip
from conftest import ROOT, python_path
from fake_cupy import A100, write_cupy
from slurm_jobs import ended, require_slurm, states, wait_until
from videofile import encode_video

from flowpipe import open_store

SCRIPTS = ROOT / "pipelines" / "slurm"
CLIPS = 8

pytestmark = pytest.mark.timeout(900)
"""Jobs wait for each other where one machine is the whole Slurm."""


def test_scripts_are_where_the_command_says():
    done = subprocess.run(command("cluster", "scripts"), capture_output=True, text=True, check=True)
    assert {path.name for path in Path(done.stdout.strip()).iterdir()} == {
        "array.sh", "dask.sh", "train.sh",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["array.sh", "dask.sh", "train.sh"])
def test_scripts_hold_no_python(name):
    assert "python" not in (SCRIPTS / name).read_text()


@pytest.mark.parametrize("name", ["array.sh", "dask.sh", "train.sh"])
def test_scripts_are_bash_and_say_what_they_need(name):
    subprocess.run(["bash", "-n", SCRIPTS / name], check=True)
    text = (SCRIPTS / name).read_text()
    for word in ("# Needs ", "# Submit ", "# GPUs ", "# Again ", "#SBATCH --requeue"):
        assert word in text
    assert os.access(SCRIPTS / name, os.X_OK)


# -- real jobs


@pytest.fixture(scope="module")
def slurm() -> None:
    require_slurm()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(CLIPS):
        encode_video(folder / f"clip-{seed}.mp4", moving_clip(seed, 80, 120, 160))
    return folder


@pytest.fixture
def submit(slurm: None, tmp_path: Path, videos: Path):
    """Submit a script on the videos; jobs that a failing test leaves are cancelled."""
    # Jobs find this flowpipe, installed or not, and flowpipe means the one under test.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("flowpipe", "dask"):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        (tools / name).chmod(0o755)
    paths = [str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": python_path(ROOT),
    }
    jobs = []

    def run(script: str, *options: str) -> str:
        done = subprocess.run(
            ["sbatch", "--parsable", "--mem-per-cpu=1000M", "--cpus-per-task=1", *options,
             SCRIPTS / script, "--videos", videos, "--out", "store"],
            capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        jobs.append(done.stdout.strip())
        return jobs[-1]

    yield run
    for job in jobs:
        subprocess.run(["scancel", "--quiet", job])


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("flowpipe-*.log")))


def stored_whole(store: Path) -> None:
    opened = open_store(store)
    assert {video.frames for video in opened.videos.values()} == {80}
    assert len(opened.videos) == CLIPS
    assert not [path for path in (store / "shards").iterdir() if path.suffix != ".h5"]


def test_array_of_two_cancelled_and_submitted_again(submit, tmp_path):
    store = tmp_path / "store"
    first = submit("array.sh", "--array=1-2")
    wait_until(lambda: any(store.glob("shards/shard-*.h5")) or ended(first))
    subprocess.run(["scancel", first], check=True)
    wait_until(lambda: ended(first))
    kept = {path: path.stat().st_mtime_ns for path in store.glob("shards/shard-*.h5")}
    assert kept

    again = submit("array.sh", "--array=1-2")
    wait_until(lambda: ended(again))
    assert states(again) == {"1": "COMPLETED", "2": "COMPLETED"}, logs(tmp_path)
    stored_whole(store)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # none was made twice


def test_task_queues_again_before_its_time_is_up(submit, tmp_path):
    job = submit("array.sh", "--array=1-1")
    wait_until(lambda: any((tmp_path / "store").glob("shards/shard-*.h5")) or ended(job))
    # What --signal=B:USR1@120 has Slurm do.
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_1"], check=True)
    wait_until(lambda: states(job) == {"1": "PENDING"} or ended(job))
    assert states(job) == {"1": "PENDING"}, logs(tmp_path)
    assert "the time is up, task 1 queues again" in logs(tmp_path)
    assert "finished videos are kept" in logs(tmp_path)


def test_array_that_misses_shares_is_refused(submit, tmp_path):
    job = submit("array.sh", "--array=2,3")
    wait_until(lambda: ended(job))
    assert set(states(job).values()) == {"FAILED"}
    assert "submit with --array=1-N" in logs(tmp_path)
    assert not (tmp_path / "store").exists()


def test_dask_cluster_within_a_job(submit, tmp_path):
    job = submit("dask.sh", "--ntasks=2")
    wait_until(lambda: ended(job))
    assert set(states(job).values()) == {"COMPLETED"}, logs(tmp_path)
    stored_whole(tmp_path / "store")
    (log,) = tmp_path.glob("flowpipe-*.dask.log")
    assert log.read_text().count("Register worker addr: tls://") == 2, "each task is a worker"
    assert not list(tmp_path.glob("*.cluster"))  # it held the key
    flow = open_store(tmp_path / "store").flow("clip-0.mp4", "flow", 0, 79)
    assert abs(float(np.median(flow[:, 0])) + 340 / 160) < 0.5  # it drifts left by a pixel a frame


# -- GPUs, which are Slurm's to give out; that these ones do not compute, only flowpipe would notice


@pytest.fixture
def two_gpus(slurm: None) -> None:
    shown = subprocess.run(["sinfo", "-h", "-o", "%G"], capture_output=True, text=True)
    if "gpu:2" not in shown.stdout:
        pytest.skip(f"needs a Slurm node of two GPUs: {shown.stdout.strip()}")


def in_a_job(folder: Path, command: str, *options: str, **environment: str) -> str:
    """What a command prints as a job."""
    log = folder / "job.log"
    job = subprocess.run(
        ["sbatch", "--parsable", "--mem-per-cpu=1000M", "--output", log, *options,
         "--wrap", command],
        check=True, capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path(ROOT), **environment},
    ).stdout.strip()  # fmt: skip
    wait_until(lambda: ended(job))  # sbatch --wait asks every half minute only
    return log.read_text()


@pytest.mark.parametrize("gpus", [1, 2])
def test_workers_of_a_job_have_the_gpus_of_the_job(gpus, two_gpus, tmp_path):
    script = f"{sys.executable} {ROOT / 'tests' / 'gpu_pool.py'} 2"
    said = in_a_job(tmp_path, f"env; {script} {gpus}", f"--gres=gpu:{gpus}")
    (given,) = [line[21:] for line in said.splitlines() if line.startswith("CUDA_VISIBLE_DEVICES=")]
    assert len(given.split(",")) == gpus
    before, after = (json.loads(line) for line in said.splitlines() if line.startswith('{"'))
    assert set(before.values()) == set(after.values()) == set(given.split(","))
    (stayed,) = before.keys() & after.keys()
    assert before[stayed] == after[stayed]


def test_more_gpus_than_the_job_has_are_refused(two_gpus, videos, tmp_path):
    site = write_cupy(tmp_path / "site", A100, A100)  # of the machine; the job has one of them
    said = in_a_job(
        tmp_path,
        f"{sys.executable} -m flowpipe extract --videos {videos} --out store --gpus 2; "
        "echo exit $?",
        "--gres=gpu:1",
        PYTHONPATH=python_path(site, ROOT),
    )
    assert "--gpus 2: this process sees 1 (CUDA_VISIBLE_DEVICES is '0')" in said
    assert "exit 2" in said


def told(submit, folder: Path, script: str, *options: str) -> str:
    """The arguments of `flowpipe extract` in a job script; it then does what `then` holds."""
    (folder / "bin" / "flowpipe").write_text(
        f"""#!/bin/sh
[ "$1" = extract ] || exec "{sys.executable}" -m flowpipe "$@"
echo "$@"
exec "{sys.executable}" {folder / "then.py"} "$@"
"""
    )
    job = submit(script, *options)
    wait_until(lambda: ended(job))
    assert set(states(job).values()) == {"COMPLETED"}, logs(folder)
    return logs(folder)


@pytest.mark.parametrize(
    "options, words",
    [
        (("--gres=gpu:2",), "--device cuda --gpus 2 --videos * --workers 2"),
        (("--gres=gpu:1", "--cpus-per-task=2"), "--device cuda --gpus 1 --videos * --workers 2"),
        ((), "--device cpu --videos * --workers 1"),
    ],
)
def test_array_uses_the_gpus_of_its_tasks(options, words, submit, two_gpus, tmp_path):
    (tmp_path / "then.py").write_text("")
    said = told(submit, tmp_path, "array.sh", "--array=1-1", *options)
    beginning, end = words.split(" * ")
    assert beginning in said and f"{end} --part 1/1" in said


# -- MPS, which lets the workers of a GPU compute side by side

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


def write_tools(folder: Path) -> None:
    """Stand-ins that write what they are told, and by whom, to `said` beside their folder."""
    folder.mkdir(exist_ok=True)
    tools = {"nvidia-cuda-mps-control": MPS_CONTROL, "nvidia-smi": NVIDIA_SMI, "flowpipe": CLIENT}
    for name, text in tools.items():
        (folder / name).write_text(text.replace("$FOLDER", str(folder.parent)))
        (folder / name).chmod(0o755)


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


def test_dask_workers_of_a_job_reach_its_mps(submit, two_gpus, tmp_path):
    client = tmp_path / "bin" / "flowpipe"
    text = client.read_text()
    write_tools(tmp_path / "bin")
    client.write_text(text)
    (tmp_path / "then.py").write_text(ASK_THE_WORKERS)
    options = ("--nodes=1", "--ntasks=2", "--gres=gpu:1")
    assert "seen ['GPU-0', 'GPU-0']" in told(submit, tmp_path, "dask.sh", *options)
    began, end = (tmp_path / "said").read_text().splitlines()
    assert (began, end) == ("control -d  of GPU-0", "control  quit of GPU-0")
    assert not Path((tmp_path / "pipes").read_text().strip()).exists()


def test_mps_of_a_job_ends_with_it(submit, two_gpus, tmp_path):
    write_tools(tmp_path / "bin")
    job = submit("array.sh", "--array=1-1", "--gres=gpu:1", "--cpus-per-task=2")
    wait_until(lambda: ended(job))
    began, client, end = (tmp_path / "said").read_text().splitlines()
    gpu = began.rpartition(" ")[2]
    assert began == f"control -d  of {gpu}" and gpu.startswith("GPU-")
    assert (client, end) == (f"client there of {gpu}", f"control  quit of {gpu}"), logs(tmp_path)
    assert not Path((tmp_path / "pipes").read_text().strip()).exists()


ASK_THE_WORKERS = """
import os, sys
from distributed import Client
with Client(scheduler_file=sys.argv[sys.argv.index("--scheduler") + 1]) as client:
    assert client.scheduler.address.startswith("tls://")
    client.wait_for_workers(2)
    seen = client.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    print("seen", sorted(map(str, seen.values())))
"""


@pytest.mark.parametrize(
    "options, device, seen",
    [
        (("--gpus-per-task=1",), "cuda", "['0', '1']"),
        (("--gres=gpu:2",), "cuda", "['0', '1']"),
        (("--gres=gpu:1",), "cuda", "['0', '0']"),
        ((), "cpu", "['None', 'None']"),
    ],
)
def test_dask_workers_of_a_job_have_a_gpu_each(options, device, seen, submit, two_gpus, tmp_path):
    (tmp_path / "then.py").write_text(ASK_THE_WORKERS)
    said = told(submit, tmp_path, "dask.sh", "--nodes=1", "--ntasks=2", *options)
    assert f"extract --device {device} --videos" in said
    assert f"seen {seen}" in said
