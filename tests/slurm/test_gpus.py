"""Job scripts as real jobs on GPUs that exist to Slurm only: what they tell flowpipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, python_path
from fake_cupy import A100, write_cupy
from slurm_jobs import ASK_THE_WORKERS, ended, told, wait_until

pytestmark = pytest.mark.timeout(900)
"""Jobs wait for each other where one machine is the whole Slurm."""


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
