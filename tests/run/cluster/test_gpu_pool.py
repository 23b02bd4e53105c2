"""Which GPU each worker of a pool sees; the workers are real and no GPU is needed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, python_path
from emulated import STAND_IN

SCRIPT = ROOT / "tests" / "support" / "gpu_pool.py"
DASK_CUDA_WITHOUT_GPU = {
    "DASK_CUDA_TEST_SINGLE_GPU": "1",
    "DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC": "1",
}


def pool_of(
    workers: int, gpus: int, *words: str, sites: tuple[Path, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    return subprocess.run(
        [sys.executable, SCRIPT, str(workers), str(gpus), *words], capture_output=True, text=True,
        env={**kept, "PYTHONPATH": python_path(ROOT, *sites), **environment},
        timeout=200,
    )  # fmt: skip


def read_seen(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def through_dask_cuda() -> bool:
    return importlib.util.find_spec("dask_cuda") is not None


@pytest.mark.parametrize(
    "shown, gpus", [(None, {"0", "1"}), ("5,GPU-b,MIG-a,1", {"5", "GPU-b", "MIG-a"})]
)
def test_workers_see_one_gpu_each_and_the_same_after_a_death(
    shown: str | None, gpus: set[str]
) -> None:
    if through_dask_cuda():
        pytest.skip("dask-cuda is installed: it shows a worker its own GPU first, not alone")
    environment = {} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}
    before, after = read_seen(pool_of(len(gpus), len(gpus), **environment))
    assert set(before.values()) == set(after.values()) == gpus
    stayed = before.keys() & after.keys()
    assert len(stayed) == len(gpus) - 1, "the other one was replaced"
    assert {pid: before[pid] for pid in stayed} == {pid: after[pid] for pid in stayed}


def test_dask_cuda_shows_each_worker_its_own_gpu_first() -> None:
    if not through_dask_cuda():
        pytest.skip("needs dask-cuda")
    options = {"CUDA_VISIBLE_DEVICES": "5,3,1", **DASK_CUDA_WITHOUT_GPU}
    before, after = read_seen(pool_of(2, 2, **options))
    assert set(before.values()) == set(after.values()) == {"5,3", "3,5"}


def test_workers_share_gpus_evenly() -> None:
    before, after = read_seen(pool_of(4, 2, CUDA_VISIBLE_DEVICES="7,2"))
    assert sorted(before.values()) == sorted(after.values()) == ["2", "2", "7", "7"]


def test_fewer_gpus_than_wanted_are_refused() -> None:
    done = pool_of(2, 2, CUDA_VISIBLE_DEVICES="1")
    assert done.returncode == 1
    assert "2 GPUs wanted" in done.stderr and "'1' shows 1" in done.stderr
    assert "evenly" in pool_of(3, 2, CUDA_VISIBLE_DEVICES="0,1").stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels")
def test_further_workers_of_an_exclusive_gpu_get_an_error(tmp_path: Path) -> None:
    if through_dask_cuda():
        pytest.skip("dask-cuda is installed: it asks for a real GPU")
    lock = str(tmp_path / "gpu")
    done = pool_of(2, 1, "open", sites=(STAND_IN,), CUDA_STAND_IN_EXCLUSIVE=lock)
    assert done.returncode == 0, done.stderr
    refused, has_it = sorted(json.loads(done.stdout), key=lambda said: said.startswith("cuda-sm"))
    assert has_it == "cuda-sm_90"
    assert "the GPU cannot be opened (cudaError 46)" in refused
    assert "--workers equal to --gpus" in refused
