"""cpu, cuda or auto -> the device that torch is to compute on."""

from __future__ import annotations

import ctypes

import torch

from flowpipe.errors import BackendError


def chosen_device(wanted: str) -> str:
    """``cuda`` where torch can use a GPU and that is not forbidden, else ``cpu``.

    Raises
    ------
    BackendError
        If ``cuda`` is asked for and cannot be used.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise BackendError("torch sees no GPU that it can use; leave out --device cuda")
    return "cuda" if there and wanted != "cpu" else "cpu"


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one, where it is glibc.

    It gives large blocks back to the system, which then clears their pages again: on a CPU that
    takes as long as half of the network's own work.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        no_mappings, never_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
        mallopt(*no_mappings)
        mallopt(*never_trim)
