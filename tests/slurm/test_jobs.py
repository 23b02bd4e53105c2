"""Job scripts of pipelines/slurm as real jobs, one at a time, as they share cores and GPUs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, python_path
from fake_cupy import A100, write_cupy
from slurm_jobs import (
    CLIPS,
    described,
    has_ended,
    logs,
    read_arguments,
    require_slurm,
    states,
    wait_until,
    write_flowpipe,
    write_tools,
)

from flowpipe import open_store

pytestmark = pytest.mark.timeout(900)
"""Jobs wait for each other where one machine is the whole Slurm."""

ASK_THE_WORKERS = """
import os, sys
from distributed import Client
with Client(scheduler_file=sys.argv[sys.argv.index("--scheduler") + 1]) as client:
    assert client.scheduler.address.startswith("tls://")
    client.wait_for_workers(2)
    seen = client.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    print("seen", sorted(map(str, seen.values())))
"""


def assert_complete(store: Path) -> None:
    opened = open_store(store)
    assert {video.frames for video in opened.videos.values()} == {80}
    assert len(opened.videos) == CLIPS
    assert not [path for path in (store / "shards").iterdir() if path.suffix != ".h5"]


def test_an_array_of_two_resumes_when_it_is_submitted_again(submit, tmp_path):
    store = tmp_path / "store"
    first = submit("array.sh", "--array=1-2")
    wait_until(lambda: any(store.glob("shards/shard-*.h5")) or has_ended(first))
    subprocess.run(["scancel", first], check=True)
    wait_until(lambda: has_ended(first))
    kept = {path: path.stat().st_mtime_ns for path in store.glob("shards/shard-*.h5")}
    assert kept

    again = submit("array.sh", "--array=1-2")
    wait_until(lambda: has_ended(again))
    assert states(again) == {"1": "COMPLETED", "2": "COMPLETED"}, logs(tmp_path)
    assert_complete(store)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # none was made twice


def test_a_task_requeues_itself_before_its_time_is_up(submit, tmp_path):
    job = submit("array.sh", "--array=1-1")
    wait_until(lambda: any((tmp_path / "store").glob("shards/shard-*.h5")) or has_ended(job))
    # What --signal=B:USR1@120 has Slurm do.
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_1"], check=True)
    wait_until(lambda: states(job) == {"1": "PENDING"} or has_ended(job))
    assert states(job) == {"1": "PENDING"}, logs(tmp_path)
    assert "time limit: task 1 is requeued" in logs(tmp_path)
    assert "finished videos are kept" in logs(tmp_path)


def test_an_array_that_lacks_shares_is_refused(submit, tmp_path):
    job = submit("array.sh", "--array=2,3")
    wait_until(lambda: has_ended(job))
    assert set(states(job).values()) == {"FAILED"}
    assert "submit with --array=1-N" in logs(tmp_path)
    assert not (tmp_path / "store").exists()


def test_a_job_starts_a_dask_cluster(submit, tmp_path):
    job = submit("dask.sh", "--ntasks=2")
    wait_until(lambda: has_ended(job))
    assert set(states(job).values()) == {"COMPLETED"}, logs(tmp_path)
    assert_complete(tmp_path / "store")
    (log,) = tmp_path.glob("flowpipe-*.dask.log")
    assert log.read_text().count("Register worker addr: tls://") == 2, "each task is a worker"
    assert not list(tmp_path.glob("*.cluster"))  # it held the key
    flow = open_store(tmp_path / "store").flow("clip-0.mp4", "flow", 0, 79)
    assert abs(float(np.median(flow[:, 0])) + 340 / 160) < 0.5  # it drifts left by a pixel a frame


def in_a_job(folder: Path, command: str, *options: str, **environment: str) -> str:
    """What a command prints as a job."""
    log = folder / "job.log"
    job = subprocess.run(
        ["sbatch", "--parsable", "--mem-per-cpu=1000M", "--output", log, *options,
         "--wrap", command],
        check=True, capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path(ROOT), **environment},
    ).stdout.strip()  # fmt: skip
    wait_until(lambda: has_ended(job))  # sbatch --wait asks every half minute only
    return log.read_text()


@pytest.mark.parametrize("gpus", [1, 2])
def test_workers_of_a_job_have_the_gpus_of_the_job(gpus, two_gpus, tmp_path):
    script = f"{sys.executable} {ROOT / 'tests' / 'support' / 'gpu_pool.py'} 2"
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
    said = read_arguments(submit, tmp_path, "array.sh", "--array=1-1", *options)
    beginning, end = words.split(" * ")
    assert beginning in said and f"{end} --part 1/1" in said


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
    said = read_arguments(submit, tmp_path, "dask.sh", "--nodes=1", "--ntasks=2", *options)
    assert f"extract --device {device} --videos" in said
    assert f"seen {seen}" in said


def test_dask_workers_of_a_job_reach_its_mps(submit, two_gpus, tmp_path):
    client = tmp_path / "bin" / "flowpipe"
    text = client.read_text()
    write_tools(tmp_path / "bin")
    client.write_text(text)
    (tmp_path / "then.py").write_text(ASK_THE_WORKERS)
    options = ("--nodes=1", "--ntasks=2", "--gres=gpu:1")
    assert "seen ['GPU-0', 'GPU-0']" in read_arguments(submit, tmp_path, "dask.sh", *options)
    began, end = (tmp_path / "said").read_text().splitlines()
    assert (began, end) == ("control -d  of GPU-0", "control  quit of GPU-0")
    assert not Path((tmp_path / "pipes").read_text().strip()).exists()


def test_mps_of_a_job_ends_with_it(submit, two_gpus, tmp_path):
    write_tools(tmp_path / "bin")
    job = submit("array.sh", "--array=1-1", "--gres=gpu:1", "--cpus-per-task=2")
    wait_until(lambda: has_ended(job))
    began, client, end = (tmp_path / "said").read_text().splitlines()
    gpu = began.rpartition(" ")[2]
    assert began == f"control -d  of {gpu}" and gpu.startswith("GPU-")
    assert (client, end) == (f"client there of {gpu}", f"control  quit of {gpu}"), logs(tmp_path)
    assert not Path((tmp_path / "pipes").read_text().strip()).exists()


def test_a_training_queues_itself_again_and_goes_on(tmp_path: Path) -> None:
    require_slurm()
    pytest.importorskip("torch", reason="needs torch")
    import tiny
    from tiny_training import PROGRAM

    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", end=1500)
    store = tiny.make_store(tmp_path / "store")
    environment = write_flowpipe(tmp_path / "bin", f'exec "{sys.executable}" "{PROGRAM}" "$@"')
    environment["PYTHONPATH"] = python_path(ROOT, PROGRAM.parent)
    run, log = tmp_path / "run", tmp_path / "job.log"
    job = subprocess.run(
        ["sbatch", "--parsable", "--mem-per-cpu=1000M", "--cpus-per-task=1", "--output", log,
         ROOT / "pipelines" / "slurm" / "train.sh", store, "--modality", "rgb", "--recipe", recipe,
         "-o", run, "--validate-every", "9999"],
        check=True, capture_output=True, text=True, cwd=tmp_path, env=environment,
    ).stdout.strip()  # fmt: skip
    try:
        wait_until(lambda: (run / "log.csv").exists() or has_ended(job))
        # What --signal=B:USR1@120 has Slurm do.
        subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
        wait_until(lambda: states(job) == {"": "PENDING"} or has_ended(job))
        assert states(job) == {"": "PENDING"}, log.read_text()
        # Started earlier, it would be ended by the end of its first script.
        wait_until(lambda: "Restarts=1" in described(job))
        # Slurm holds a job that queued itself again for some minutes; an operator need not wait.
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
        wait_until(lambda: "resuming at step" in log.read_text() or has_ended(job))
        assert "time limit: the job is requeued" in log.read_text()
        assert "resuming at step" in log.read_text(), described(job)
    finally:
        subprocess.run(["scancel", "--quiet", job])
    wait_until(lambda: has_ended(job))
    with (run / "steps.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(1, len(steps) + 1)), "none is twice, and none is missing"
