"""Option --device -> torch's device, kernels and memory settings."""

from __future__ import annotations

import ctypes
import os
import resource
import sys

import torch

from flowpipe.errors import BackendError
from flowpipe.words import count_noun


def choose_device(wanted: str) -> str:
    """Choose the device that computes.

    Parameters
    ----------
    wanted : str
        ``cuda``, ``cpu``, or ``auto`` for a GPU if there is one.

    Returns
    -------
    str
        ``cuda`` or ``cpu``.

    Raises
    ------
    BackendError
        If ``cuda`` is asked for and cannot be used.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise BackendError("torch sees no GPU that it can use; leave out --device cuda")
    return "cuda" if there and wanted != "cpu" else "cpu"


def choose_kernels(device: str, deterministic: bool) -> None:
    """Choose between the fastest kernels of a GPU and those that repeat their results.

    By default cuDNN measures its kernels on the first batch and takes the fastest, which may add
    numbers in another order in each run. With `deterministic` torch takes kernels that repeat their
    results, where it has them, and warns where it has none. A CPU repeats its results anyway.

    Parameters
    ----------
    device : str
        Device that computes.
    deterministic : bool
        Take kernels that repeat their results.
    """
    if device == "cpu":
        return
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself then
        torch.use_deterministic_algorithms(True, warn_only=True)


def describe(device: str) -> str:
    """Describe a device for the log.

    Parameters
    ----------
    device : str
        Device that computes.

    Returns
    -------
    str
        Text such as ``cuda:0, NVIDIA H100`` or ``cpu, 2 threads``.
    """
    if device == "cpu":
        return f"cpu, {count_noun(torch.get_num_threads(), 'thread')}"
    return f"{device}, {torch.cuda.get_device_name(device)}"


def peak_memory_mb(device: str) -> float:
    """Return the most memory used so far.

    Parameters
    ----------
    device : str
        Device that computes.

    Returns
    -------
    float
        MB of the tensors on a GPU, or of the process on a CPU.
    """
    if device != "cpu":
        return float(torch.cuda.max_memory_allocated(device)) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step; other C libraries are left alone.

    glibc returns large blocks to the system, which must clear their pages again. On a CPU that
    takes as long as half of the network's own work.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        no_mappings, never_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
        mallopt(*no_mappings)
        mallopt(*never_trim)
