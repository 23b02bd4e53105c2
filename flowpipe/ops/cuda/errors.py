"""Errors of CUDA, its driver and CuPy -> flowpipe's errors, with what to do.

An error while a process opens its GPU is a fault of the machine, which every video would meet. A
later error is too little memory, which smaller windows avoid, or loss of the device, after which
only a new process can work. Neither is a video's fault.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flowpipe.errors import BackendError, DeviceLostError, DeviceMemoryError

OUT_OF_MEMORY = 2  # of the enums cudaError and CUresult, as all that follow
NO_DEVICE, INSUFFICIENT_DRIVER = 100, 35

ASK_NVIDIA_SMI = "see whether nvidia-smi works, and what dmesg says of the GPU"

ADVICE = {
    OUT_OF_MEMORY: "other processes hold the GPU's memory, nvidia-smi lists them: wait for them, "
    "choose another GPU with CUDA_VISIBLE_DEVICES, or give fewer --workers for each GPU",
    INSUFFICIENT_DRIVER: "the NVIDIA driver is older than CuPy's CUDA: update it",
    46: "another process has the GPU or MIG device to itself (nvidia-smi -q -d COMPUTE then says "
    "Exclusive_Process, or Prohibited): wait for that process, give one worker for each GPU "
    "(--workers equal to --gpus), share the GPU through MPS (nvidia-cuda-mps-control -d), or have "
    "the mode changed (nvidia-smi -c DEFAULT)",
    NO_DEVICE: "this process sees no GPU: nvidia-smi -L lists GPUs and MIG "
    "devices; with MIG on, there must be a MIG device, and CUDA_VISIBLE_DEVICES must name one",
    101: "CUDA_VISIBLE_DEVICES must name a GPU or MIG device that nvidia-smi -L lists",
    **dict.fromkeys((209, 218, 222), "the NVIDIA driver is older than the CUDA that CuPy compiles "
    "with: update the driver, or install CuPy and NVRTC of its CUDA version"),
    800: "this process may not use the GPU: look at the permissions of /dev/nvidia*; in a "
    "container or batch job, ask for the GPU (docker run --gpus all, sbatch --gres=gpu:1)",
    802: "the GPU's NVSwitch fabric is not ready: start the fabric manager of the driver's version "
    "(systemctl start nvidia-fabricmanager)",
    803: "the NVIDIA driver was updated and its kernel module was not: reboot the machine; in a "
    "container, start the container again",
    804: "the CUDA compatibility libraries of this environment do not fit the GPU or its driver: "
    "take cuda/compat out of LD_LIBRARY_PATH, or update the driver",
    **dict.fromkeys((805, 806, 807, 810), "MPS does not serve this process: restart it (echo quit "
    "| nvidia-cuda-mps-control; nvidia-cuda-mps-control -d) as the same user, or unset "
    "CUDA_MPS_PIPE_DIRECTORY"),
    **dict.fromkeys((808, 809), "MPS serves as many processes as it can: give fewer --workers for "
    "each GPU"),
}  # fmt: skip
"""Status -> advice, for errors of opening a GPU."""


def advice(error: BaseException) -> str:
    """Say what to do about an error of CUDA.

    Parameters
    ----------
    error : BaseException
        Error of CUDA.

    Returns
    -------
    str
        Advice.
    """
    return ADVICE.get(_status(error), ASK_NVIDIA_SMI)


def last_line(error: BaseException) -> str:
    """Return the last line with words of an error.

    CuPy encloses its messages in lines of ===.

    Parameters
    ----------
    error : BaseException
        Error of CuPy.

    Returns
    -------
    str
        The line.
    """
    lines = [line.strip() for line in str(error).splitlines() if re.search(r"\w", line)]
    return lines[-1] if lines else type(error).__name__


def _status(error: BaseException) -> int:
    return int(getattr(error, "status", -1))


def _error_types(cupy: Any) -> tuple[type[Exception], ...]:
    cuda = cupy.cuda
    return (
        cuda.memory.OutOfMemoryError, cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError,
    )  # fmt: skip


@contextmanager
def translate_errors(cupy: Any) -> Iterator[None]:
    """Translate the errors of work under way.

    Parameters
    ----------
    cupy : module
        CuPy.

    Raises
    ------
    DeviceMemoryError
        If memory is short; less at once may fit.
    DeviceLostError
        If a kernel or the hardware failed; every further CUDA call of this process fails.
    """
    try:
        yield
    except _error_types(cupy) as error:
        if _is_memory(cupy, error):
            raise DeviceMemoryError.of(error) from error
        raise DeviceLostError(
            f"the GPU has failed ({error}): see what dmesg and nvidia-smi say of it; flowpipe "
            "selftest --device cuda tells whether it computes as it should"
        ) from error


@contextmanager
def translate_opening_errors(cupy: Any) -> Iterator[None]:
    """Translate the errors of a process that opens its GPU.

    Parameters
    ----------
    cupy : module
        CuPy.

    Raises
    ------
    BackendError
        For any error of CUDA: no video can be computed here.
    """
    try:
        yield
    except _error_types(cupy) as error:
        raise _opening_error(cupy, error) from error
    except (
        DeviceMemoryError,
        DeviceLostError,
    ) as error:  # by `translate_errors`
        raise _opening_error(cupy, error.__cause__ or error) from error


def _opening_error(cupy: Any, error: BaseException) -> BackendError:
    why = ADVICE[OUT_OF_MEMORY] if _is_memory(cupy, error) else advice(error)
    return BackendError(
        f"the GPU cannot be opened ({last_line(error)}): {why}; or use --device cpu"
    )


def _is_memory(cupy: Any, error: BaseException) -> bool:
    return isinstance(error, cupy.cuda.memory.OutOfMemoryError) or _status(error) == OUT_OF_MEMORY


CACHE_OFF = "CUPY_CACHE_IN_MEMORY"  # of CuPy: every process compiles its kernels


def cache_folder() -> str:
    """Return the folder in which CuPy keeps compiled kernels."""
    default = os.path.expanduser("~/.cupy/kernel_cache")  # noqa: PTH111 - as CuPy has it
    return os.environ.get("CUPY_CACHE_DIR") or default


def why_no_cache(error: OSError) -> str:
    """Explain why CuPy cannot write what it compiles.

    Parameters
    ----------
    error : OSError
        Error of the write.

    Returns
    -------
    str
        The reason and what to do.
    """
    if "temporary directory" in str(error):  # of tempfile
        return f"CuPy compiles in a temporary folder ({error.strerror}): set TMPDIR to one"
    home = os.environ.get("HOME")
    setting = "is not set" if home is None else f"is {home!r}"
    return (
        f"CuPy keeps compiled kernels in {cache_folder()} and cannot write there "
        f"({error.strerror or error}; HOME {setting}): set CUPY_CACHE_DIR to a folder that can be "
        "written to"
    )


def why_no_headers(built_for: int, said: str = "") -> str:
    """Return that CuPy lacks the headers of CUDA, and what to do.

    Parameters
    ----------
    built_for : int
        CUDA version of CuPy, such as 12090.
    said : str, optional
        What CuPy or its compiler said.

    Returns
    -------
    str
        The reason and what to do.
    """
    package = f"nvidia-cuda-runtime{'-cu12' if built_for < 13000 else ''}"
    return (
        f"CuPy finds no headers of CUDA, which it needs to compile a kernel"
        f"{f' ({said})' if said else ''}: pip install {package}, or set CUDA_PATH to a CUDA "
        "toolkit that has include/cuda_runtime.h"
    )


def misses_headers(error: Exception) -> bool:
    """Return whether a failed compilation lacked CUDA's headers.

    Parameters
    ----------
    error : Exception
        Error of a compilation.

    Returns
    -------
    bool
        True if a header of CUDA was not found.
    """
    return bool(re.search(r"cannot open source file|(?i:cuda).{0,20}headers?\b", str(error)))
