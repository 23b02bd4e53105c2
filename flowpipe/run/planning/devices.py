"""--device, --gpus, --workers, --scheduler -> what computes, in how many processes, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from flowpipe.errors import BackendError, UsageError
from flowpipe.ops.cuda.devices import Gpus, gpus
from flowpipe.run.planning.worker_count import usable_cores
from flowpipe.video import require_nvdec, visible_gpus
from flowpipe.words import count_noun

CHOICES = ("auto", "cuda", "cpu")


@dataclass(frozen=True)
class Devices:
    """Device, GPUs and worker processes of a run."""

    device: str
    gpus: int
    """Number of GPUs that the workers share; 0 for none, or if a scheduler's workers have them."""
    workers: int
    """Number of worker processes; 0 for as many as fit into the memory of the GPUs."""
    why: str
    """Choice and its reason, one line; empty if the user made the choice."""
    any_device: bool = False
    """True if the run may use the cores instead of the GPUs, since the user chose neither."""


def choose(device: str, wanted: int | None, workers: int | None, scheduler: str) -> Devices:
    """Turn the options into devices; ``auto`` is CUDA if a GPU can be used, and says so.

    If neither ``--device`` nor ``--gpus`` is given, the plan of the run measures both devices and
    takes the faster one.

    Parameters
    ----------
    device : {"auto", "cuda", "cpu"}
    wanted : int, optional
        ``--gpus``.
    workers : int, optional
        ``--workers``: with GPUs a multiple of them.
    scheduler : str
        Address or file of a Dask scheduler, whose workers already have their GPUs.

    Returns
    -------
    Devices
        Device, number of GPUs and number of workers.

    Raises
    ------
    UsageError
        If the options contradict each other or more GPUs are wanted than there are.
    BackendError
        If GPUs are wanted and cannot be used.
    """
    cores = usable_cores()
    if device == "cpu" and wanted:
        raise UsageError(f"--device cpu and --gpus {wanted} contradict each other; leave one out")
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
    chosen = _choose_gpus(found, wanted, workers)
    return replace(chosen, any_device=device == "auto" and not wanted)


def for_decoder(chosen: Devices, decoder: str) -> Devices:
    """Check that the decoder works here, and give GPUs to ``nvdec`` if the cores compute.

    NVDEC needs a driver and PyNvVideoCodec but not CuPy, so it works with ``--device cpu`` too.

    Parameters
    ----------
    chosen : Devices
        Result of `choose`.
    decoder : {"cpu", "nvdec"}
        Decoder of the recipe.

    Returns
    -------
    Devices
        The same, or with GPUs for the decoder.

    Raises
    ------
    BackendError
        If NVDEC cannot be used.
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


def _choose_gpus(found: Gpus, wanted: int | None, workers: int | None) -> Devices:
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
            f"--workers {workers} cannot share {count_noun(count, 'GPU')} evenly; give --workers "
            f"{choice}, or --gpus with a number that divides {workers}"
        )
    names = ", ".join(dict.fromkeys(found.names))
    return Devices("cuda", count, workers, f"cuda, {count} of {visible} GPUs ({names})")
