"""PyNvVideoCodec, driver -> capabilities of NVDEC in this process, or why it cannot be used."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import re
from typing import Any

from flowpipe.distribution import install_command
from flowpipe.errors import BackendError

OLDEST = (2, 2, 4)
"""Oldest usable version of PyNvVideoCodec; 2.0 loses the timestamps of packets."""
CHROMA_420 = 1  # of the enum cudaVideoChromaFormat
NO_DEVICE = 100  # of the enum CUresult


@functools.cache
def why_no_nvdec() -> str:
    """Return why NVDEC cannot be used in this process, and what to do; empty if it can.

    Opens no GPU. The answer is cached, as the driver reads ``CUDA_VISIBLE_DEVICES`` once.
    """
    if importlib.util.find_spec("PyNvVideoCodec") is None:
        return f"PyNvVideoCodec is not installed: {install_command('nvdec')}"
    count = visible_gpus()
    if count is None:
        return (
            "there is no NVIDIA driver (no libcuda.so.1): install the GPU's driver, until "
            "nvidia-smi lists the GPU; in a container, start it with the GPUs and "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        )
    if not count:
        if status := _start_error():
            return (
                f"the NVIDIA driver does not start (CUDA error {status}): see "
                "docs/troubleshooting.md for this error; check nvidia-smi and dmesg"
            )
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        setting = "is not set" if shown is None else f"is {shown!r}"
        return (
            f"this process sees no GPU (CUDA_VISIBLE_DEVICES {setting}): nvidia-smi should list "
            "one; in a batch job request one, as with sbatch --gres=gpu:1"
        )
    try:
        version = str(library().__version__)
    except Exception as error:  # a broken installation raises any error
        message = str(error).strip().partition("\n")[0] or type(error).__name__
        return (
            f"PyNvVideoCodec is installed but does not load ({message}): update the NVIDIA driver; "
            "in a container, start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        )
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return f"PyNvVideoCodec is {version}, wanted {wanted}: pip install -U pynvvideocodec"
    return ""


def require_nvdec() -> None:
    """Raise BackendError, with the reason, if NVDEC cannot be used in this process."""
    if lack := why_no_nvdec():
        raise BackendError(f"decoder nvdec: {lack}; or use --decoder cpu, in a store of its own")


def nvdec_library() -> str:
    """Return name and version of the library; call it only if NVDEC can be used."""
    return f"PyNvVideoCodec {library().__version__}"


def visible_gpus() -> int | None:
    """Return the number of GPUs that the CUDA driver shows this process; None without a driver."""
    try:
        driver = _driver()
    except OSError:
        return None
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _start_error() -> int:
    """Return the CUresult of starting the driver; 0 if it starts or only shows no GPU."""
    try:
        status = int(_driver().cuInit(0))
    except OSError:
        return 0
    return 0 if status == NO_DEVICE else status


@functools.cache
def hold_gpu() -> None:
    """Keep the context of the first GPU until this process ends.

    The library's decoders share the context, and the last one would destroy it. Each video would
    then wait for a new context, unless CuPy holds it too.
    """
    with contextlib.suppress(OSError):
        driver = _driver()
        device, context = ctypes.c_int(), ctypes.c_void_p()
        driver.cuInit(0)
        driver.cuDeviceGet(ctypes.byref(device), 0)
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)


def library() -> Any:
    """Import PyNvVideoCodec; a broken installation raises any error."""
    import PyNvVideoCodec

    return PyNvVideoCodec


@functools.cache
def capabilities(coding: str, bits: int) -> dict[str, int]:
    """Ask for the capabilities of NVDEC on this process's first GPU.

    Parameters
    ----------
    coding : str
        Coding, as the library names it.
    bits : int
        Bits of a sample.

    Returns
    -------
    dict of str to int
        Capabilities by name.

    Raises
    ------
    BackendError
        If the library fails.
    """
    nvc = library()
    try:
        found: dict[str, int] = nvc.GetDecoderCaps(
            gpuid=0,
            codec=getattr(nvc.cudaVideoCodec, coding),
            chromaformat=nvc.cudaVideoChromaFormat(CHROMA_420),
            bitdepth=bits,
        )
    except Exception as error:
        raise BackendError(
            f"NVDEC does not report its capabilities ({describe_error(error)}); check nvidia-smi; "
            "or use --decoder cpu, in a store of its own"
        ) from error
    return found


def describe_error(error: Exception) -> str:
    """Return the message of a library error.

    Parameters
    ----------
    error : Exception
        Error of the library.

    Returns
    -------
    str
        Message, without positions in the library's source.
    """
    lines = re.sub(r"(?ms)^at /.*|^.*Error Type : ", "", str(error)).split("\n")
    return "; ".join(line.strip() for line in lines if line.strip()) or type(error).__name__
