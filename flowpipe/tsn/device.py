"""cpu, cuda or auto -> the device that torch is to compute on."""

from __future__ import annotations

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
