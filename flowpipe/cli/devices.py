"""--device, --gpus, --workers, --scheduler -> what computes, in how many processes, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from flowpipe.errors import BackendError, UsageError
from flowpipe.ops.cuda.devices import Gpus, gpus
from flowpipe.run import usable_cores
from flowpipe.video import require_nvdec, visible_gpus
from flowpipe.words import count_noun

CHOICES = ("auto", "cuda", "cpu")


@dataclass(frozen=True)
class Devices:
    """What a run computes on."""

    device: str
    gpus: int
    """GPUs that this run's own workers share; 0 for none, or where the scheduler has them."""
    workers: int
    """0 for as many as keep the GPUs busy: what one takes of their memory is measured first."""
    why: str
    """What was chosen and the reason, to be said in one line; empty where it was asked for."""
    any_device: bool = False
    """Whether the cores may compute instead of the GPUs: these were not asked for."""


def choose(device: str, wanted: int | None, workers: int | None, scheduler: str) -> Devices:
    """Turn the options into devices; ``auto`` is CUDA where a GPU can be used, and is never silent.

    Where neither ``--device`` nor ``--gpus`` was given, the plan of a run measures both and takes
    the faster one.

    Parameters
    ----------
    device : {"auto", "cuda", "cpu"}
    wanted : int, optional
        ``--gpus``.
    workers : int, optional
        ``--workers``: with GPUs a multiple of them.
    scheduler : str
        Address or file of a Dask scheduler; its workers have their GPUs already and check them
        themselves.

    Raises
    ------
    UsageError
        If the options contradict each other or more GPUs are wanted than there are.
    BackendError
        If GPUs are wanted and cannot be used.
    """
    cores = usable_cores()
    if device == "cpu" and wanted:
        raise UsageError(f"--device cpu and --gpus {wanted} contradict each other: leave one out")
    if scheduler:
        if wanted:
            raise UsageError(
                f"--gpus {wanted}: the workers of --scheduler {scheduler} were started with their "
                "GPUs or without; leave --gpus out and give --device cuda to have them used"
            )
        why = "" if device != "auto" else "cpu; workers of --scheduler use GPUs with --device cuda"
        return Devices("cuda" if device == "cuda" else "cpu", 0, workers or cores, why)
    if device == "cpu":
        return Devices("cpu", 0, workers or cores, "")
    found = gpus()
    if not found.available:
        if device == "auto" and not wanted:
            return Devices("cpu", 0, workers or cores, f"cpu, because {found.reason}")
        asked = f"--gpus {wanted}" if wanted else "--device cuda"
        raise BackendError(f"{asked}: {found.reason}")
    chosen = _on_gpus(found, wanted, workers)
    return replace(chosen, any_device=device == "auto" and not wanted)


def for_decoder(chosen: Devices, decoder: str) -> Devices:
    """See that ``nvdec`` can decode here; where the cores compute, share the GPUs out for it.

    It asks for a driver and PyNvVideoCodec, not for CuPy, so ``--device cpu`` does not exclude it.

    Raises
    ------
    BackendError
        If it cannot be used.
    """
    if decoder != "nvdec":
        return chosen
    require_nvdec()
    if chosen.gpus:
        return chosen
    visible = visible_gpus() or 1
    count = max(n for n in range(1, visible + 1) if chosen.workers % n == 0)
    decodes = f"NVDEC decodes on {count} of {visible} GPUs"
    return replace(chosen, gpus=count, why=f"{chosen.why or chosen.device}; {decodes}")


def _on_gpus(found: Gpus, wanted: int | None, workers: int | None) -> Devices:
    visible = len(found.ids)
    if wanted and wanted > visible:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        setting = "is not set" if shown is None else f"is {shown!r}"
        raise UsageError(
            f"--gpus {wanted}: this process sees {visible} (CUDA_VISIBLE_DEVICES {setting}); "
            f"give --gpus {visible}, or ask the batch system for {wanted}"
        )
    count = wanted or min(visible, workers or visible)
    workers = workers or 0
    if workers % count:
        fewer = workers // count * count
        choice = f"{fewer} or {fewer + count}" if fewer else str(count)
        raise UsageError(
            f"--workers {workers} cannot share {count_noun(count, 'GPU')} evenly: give --workers "
            f"{choice}, or --gpus with a number that divides {workers}"
        )
    names = ", ".join(dict.fromkeys(found.names))
    return Devices("cuda", count, workers, f"cuda, {count} of {visible} GPUs ({names})")
