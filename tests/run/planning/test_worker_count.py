"""The number of workers follows from the cores, the memory, and a worker's use of a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, python_path
from command import run_python
from emulated import STAND_IN
from nvdec_machine import environment
from videofile import encode_video, moving_clip

from flowpipe.ops.cpu import native_core
from flowpipe.run.planning.costs import Rates
from flowpipe.run.planning.worker_count import describe_mps, usable_cores, workers_for_gpus

GB = 10**9


@pytest.mark.parametrize(
    "gpus, cores, memory, rates, workers, why",
    [
        (
            1,
            16,
            64 * GB,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1, gpu_workers=40, worker_bytes=GB),
            16,
            "16 workers for each GPU: there are 16 cores",
        ),
        (
            8,
            128,
            900 * GB,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1, gpu_workers=40, worker_bytes=GB),
            128,
            "16 workers for each GPU: there are 128",
        ),
        (
            8,
            20,
            900 * GB,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1, gpu_workers=40, worker_bytes=GB),
            16,
            "2 workers for each GPU: there are 20 cores",
        ),
        (
            2,
            64,
            900 * GB,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1, gpu_workers=3, worker_bytes=GB),
            6,
            "3 workers for each GPU: a GPU has memory for",
        ),
        (
            2,
            64,
            10 * GB,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1, gpu_workers=40, worker_bytes=GB),
            10,
            "a worker takes 1.0 GB of 10.0 GB of memory",
        ),
        (
            4,
            2,
            900 * GB,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1, gpu_workers=40, worker_bytes=GB),
            4,
            "1 worker for each GPU: there are 2 cores",
        ),
        (
            1,
            16,
            64 * GB,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1),
            1,
            "a GPU has memory for 1 worker",
        ),
        (
            2,
            64,
            GB // 2,
            Rates(frame_s=1, frame_bytes=1, gpu_s=1, gpu_workers=9, worker_bytes=GB),
            2,
            "1 worker for each GPU: a worker takes",
        ),
    ],
)
def test_the_tightest_limit_sets_the_number_of_workers(
    gpus: int, cores: int, memory: int, rates: Rates, workers: int, why: str
) -> None:
    found, words = workers_for_gpus(gpus, rates, cores, memory)
    assert found == workers and why in words
    assert found % gpus == 0


def test_cores_are_those_of_affinity_and_of_the_task_of_a_slurm_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    every = os.sched_getaffinity(0)
    assert usable_cores() <= len(every)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert usable_cores() <= len(every), "no job is under way"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert usable_cores() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(len(every)))
    assert usable_cores() == min(len(every), usable_cores())
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "10000")
    assert usable_cores() <= len(every)
    one = run_python(
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from flowpipe.run.planning.worker_count import usable_cores\n"
        "print(usable_cores())\n"
    )
    assert int(one) == 1


def test_the_run_reports_mps_where_workers_share_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert describe_mps(4, 0) == describe_mps(2, 2) == ""
    assert "nvidia-cuda-mps-control -d" in describe_mps(4, 2)
    (tmp_path / "control").touch()
    assert describe_mps(4, 2) == "workers of a GPU compute side by side through MPS"


MEASURED = """
import sys
from flowpipe import params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run.planning import rates
from flowpipe.run.planning.sample import HeaderSample
flow = {"name": "tvl1", "warps": 1, "iterations": 2}
size = {"width": 0, "height": 0}
video = {"decoder": "nvdec" if sys.argv[1:] else "cpu"}
made = {"flow": flow, "size": size, "video": video}
made = params.build(ExtractRecipe, made, where="extract")
sample = HeaderSample(1e-4, 48, 64, *sys.argv[1:])
found = rates.measure_apart(made, "cuda", sample, memory=True)
print(found.gpu_workers, found.worker_bytes, found.gpu_s > 0)
"""


def measure(*videos: Path, **environment: str) -> tuple[int, int, bool]:
    """Number of workers that fit an emulated GPU, memory of one, and whether a GPU computed."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *videos], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": python_path(ROOT, STAND_IN), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    workers, worker_bytes, on_gpu = done.stdout.split()
    return int(workers), int(worker_bytes), on_gpu == "True"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels")
@pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")
def test_the_gpu_memory_of_a_worker_is_measured(tmp_path: Path) -> None:
    """More workers fit a GPU of twice the memory; an exclusive GPU takes one."""
    found = []
    for gpu_bytes in (512 << 20, 1024 << 20):
        shared = tmp_path / str(gpu_bytes)
        shared.mkdir()
        of_gpu = {"CUDA_STAND_IN_BYTES": str(gpu_bytes), "CUDA_STAND_IN_SHARED": str(shared)}
        workers, worker_bytes, on_gpu = measure(**of_gpu)
        assert worker_bytes > 100e6 and on_gpu
        found.append(workers)
    assert 1 < found[0] < found[1] <= 16, found
    assert measure(**of_gpu, CUDA_STAND_IN_EXCLUSIVE=str(tmp_path / "lock"))[0] == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels")
@pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")
def test_a_decoder_on_the_gpu_takes_its_memory_too(tmp_path: Path) -> None:
    """With sessions of 128 MB, three or four workers fit into 1 GB; without, more fit."""
    video = encode_video(tmp_path / "a.mp4", moving_clip(5))
    machine = environment(tmp_path / "driver")
    machine["PYTHONPATH"] = python_path(STAND_IN, *machine["PYTHONPATH"].split(os.pathsep))
    found = []
    for session_bytes in (0, 128 << 20):
        shared = tmp_path / str(session_bytes)
        shared.mkdir()
        of_gpu = {"CUDA_STAND_IN_BYTES": str(1 << 30), "CUDA_STAND_IN_SHARED": str(shared)}
        of_gpu["NVDEC_STAND_IN_BYTES"] = str(session_bytes)
        workers, _, on_gpu = measure(video, **{**machine, **of_gpu})
        assert on_gpu
        found.append(workers)
    assert 1 < found[1] <= 6 < found[0], found
