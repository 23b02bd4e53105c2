"""Cores, memory and GPUs of this machine -> the number of workers that keeps all of them busy."""

from __future__ import annotations

import os
from pathlib import Path

from flowpipe.run.plan import Rates
from flowpipe.words import byte_size, count_noun


def usable_cores() -> int:
    """Return how many cores this process may use.

    CPU affinity and the quota of the cgroup count, and within a Slurm job the cores of the task:
    Slurm does not bind tasks to their cores everywhere.
    """
    from dask.system import cpu_count  # not before it is asked: a tenth of a second

    cores = cpu_count()
    if "SLURM_JOB_ID" in os.environ:
        for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
            told = os.environ.get(name, "")
            if told.isdecimal() and int(told):
                return min(cores, int(told))
    return cores


def usable_memory() -> int:
    """Return how many bytes of memory this machine, or its cgroup, has."""
    from distributed.system import memory_limit  # not before it is asked: a quarter of a second

    return memory_limit()


def fill_gpus(gpus: int, rates: Rates, cores: int, memory: int) -> tuple[int, str]:
    """Return how many workers to start for some GPUs, and why not more.

    One Python thread feeds a GPU with less than it can take, and homographies are fitted on the
    cores, so each GPU gets its share of the cores as workers, as many as memory holds.

    Parameters
    ----------
    gpus : int
    rates : Rates
        From `run.rates.measure_apart`: what a worker takes of the memories.
    cores : int
        See `usable_cores`.
    memory : int
        See `usable_memory`.
    """
    limits = {
        f"there are {count_noun(cores, 'core')}": cores // gpus,
        f"a GPU has memory for {count_noun(rates.gpu_workers, 'worker')}": rates.gpu_workers,
    }
    if rates.worker_bytes:
        took = f"a worker takes {byte_size(rates.worker_bytes)} of {byte_size(memory)} of memory"
        limits[took] = memory // rates.worker_bytes // gpus
    why, each = min(limits.items(), key=lambda limit: limit[1])
    each = max(1, each)
    return gpus * each, f"{count_noun(each, 'worker')} for each GPU: {why}"


def mps_words(workers: int, gpus: int) -> str:
    """Return what to say of NVIDIA's Multi-Process Service where workers share GPUs, else nothing.

    With it kernels of several processes run side by side; without it they take turns.
    """
    if not gpus or workers <= gpus:
        return ""
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"
    if Path(folder, "control").exists():
        return "workers of a GPU compute side by side through MPS"
    return (
        "workers of a GPU take turns on it; `nvidia-cuda-mps-control -d` lets them compute side by "
        "side"
    )
