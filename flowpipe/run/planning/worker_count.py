"""Cores, memory and GPUs of this machine -> the number of workers that keeps them busy."""

from __future__ import annotations

import os
from pathlib import Path

from flowpipe.run.planning.costs import Rates
from flowpipe.words import byte_size, count_noun


def usable_cores() -> int:
    """Return the number of cores that this process may use.

    CPU affinity and the cgroup's quota limit it; in a Slurm job the cores of the task do too, since
    not every cluster binds tasks to their cores.
    """
    from dask.system import cpu_count  # imported late: it takes 0.1 s

    cores = cpu_count()
    if "SLURM_JOB_ID" in os.environ:
        for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
            told = os.environ.get(name, "")
            if told.isdecimal() and int(told):
                return min(cores, int(told))
    return cores


def usable_memory() -> int:
    """Return the memory of this machine or its cgroup, bytes."""
    from distributed.system import memory_limit  # imported late: it takes 0.25 s

    return memory_limit()


def workers_for_gpus(gpus: int, rates: Rates, cores: int, memory: int) -> tuple[int, str]:
    """Return how many workers to start for `gpus` GPUs, and the reason for the limit.

    One worker does not saturate a GPU, and homographies are fitted on the cores. So each GPU gets
    its share of the cores as workers, as far as memory allows.

    Parameters
    ----------
    gpus : int
        Number of GPUs.
    rates : Rates
        From `flowpipe.run.planning.rates.measure_apart`, with the memory of a worker.
    cores : int
        See `usable_cores`.
    memory : int
        See `usable_memory`, bytes.

    Returns
    -------
    workers : int
        Number of workers.
    reason : str
        What limits it.
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


def describe_mps(workers: int, gpus: int) -> str:
    """Return a sentence about NVIDIA's Multi-Process Service; empty if no workers share a GPU.

    With MPS, kernels of several processes run concurrently on a GPU; without it they take turns.

    Parameters
    ----------
    workers : int
        Number of workers.
    gpus : int
        Number of GPUs.

    Returns
    -------
    str
        Sentence; empty if no workers share a GPU.
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
