"""`--devices N` -> this command in N processes of this machine, one GPU each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flowpipe.errors import BackendError, UsageError
from flowpipe.tsn.launch import RENDEZVOUS, launch
from flowpipe.words import count_noun


def devices_option(help: str) -> Callable[[Any], Any]:
    """Return the option ``--devices`` of a command that can run in several processes."""
    return click.option(
        "--devices", type=click.IntRange(1), metavar="N", help=f"{help}  [default: 1]"
    )


def launch_processes(devices: int | None, device: str) -> int | None:
    """Run this command in `devices` processes, unless this is one of them.

    Parameters
    ----------
    devices : int, optional
        ``--devices``.
    device : {"auto", "cpu", "cuda"}
        ``--device``; with ``auto`` the processes share the CPU if the driver shows no GPU.

    Returns
    -------
    int or None
        Exit code of the processes; None if this process should do the work.

    Raises
    ------
    UsageError
        If torchrun has started this process already, or there are fewer GPUs than processes.
    BackendError
        If ``cuda`` was given and there is no GPU, or a process was killed.
    """
    if RENDEZVOUS in os.environ:
        return None
    if "RANK" in os.environ:
        if devices:
            raise UsageError(
                f"--devices {devices}: torchrun has started this process already; leave --devices "
                "out and give torchrun --nproc-per-node"
            )
        return None
    if not devices or devices == 1:
        return None
    if device != "cpu":
        from flowpipe.video import visible_gpus  # it loads PyAV

        check_gpus(devices, device, visible_gpus() or 0)
    program = sys.argv[0]
    start = ["-m", "flowpipe"] if Path(program).name == "__main__.py" else [program]
    return launch(devices, [*start, *sys.argv[1:]])


def check_gpus(devices: int, device: str, visible: int) -> None:
    """Raise UsageError or BackendError unless there is a GPU for each of `devices` processes."""
    if visible >= devices or (not visible and device == "auto"):
        return
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    setting = "is not set" if shown is None else f"is {shown!r}"
    if not visible:
        raise BackendError(
            f"--devices {devices}: the NVIDIA driver shows this process no GPU "
            f"(CUDA_VISIBLE_DEVICES {setting}); leave out --device cuda to compute on the CPU"
        )
    raise UsageError(
        f"--devices {devices}: this process sees {count_noun(visible, 'GPU')} "
        f"(CUDA_VISIBLE_DEVICES {setting}); give --devices {visible}, ask the batch system for "
        f"{devices} GPUs, or "
        "compute on the CPU with --device cpu"
    )
