"""CUDA driver, CuPy -> GPUs that this process can use, or one sentence why not."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpipe.distribution import install_command
from flowpipe.errors import BackendError
from flowpipe.ops.cuda.errors import (
    CACHE_OFF,
    INSUFFICIENT_DRIVER,
    NO_DEVICE,
    advice,
    cache_folder,
    last_line,
    why_no_cache,
    why_no_headers,
)

__all__ = ["Gpus", "first_gpu_name", "gpus", "shown_gpus", "usable_cupy"]

OLDEST = {11: (5, 2), 12: (5, 2), 13: (7, 5)}
"""NVRTC major version -> lowest compute capability that kernels are compiled for."""


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """GPUs that this process can use, or the reason why there are none."""

    ids: tuple[str, ...] = ()
    """Value of ``CUDA_VISIBLE_DEVICES`` that selects each GPU: a number, or the UUID that this
    process was given."""
    names: tuple[str, ...] = ()
    memory_bytes: tuple[int, ...] = ()
    capabilities: tuple[tuple[int, int], ...] = ()
    """Compute capability of each, as (9, 0)."""
    driver: str = ""
    """Latest CUDA version that the driver supports; empty without a driver."""
    runtime: str = ""
    """CUDA version that CuPy was built for; empty without CuPy."""
    cupy: str = ""
    """Version of CuPy; empty without it."""
    reason: str = ""
    """Why no GPU can be used, and what to do; empty if one can."""

    @property
    def available(self) -> bool:
        """True if the CUDA backend can run here, on each of the GPUs."""
        return not self.reason


@functools.cache
def gpus() -> Gpus:
    """Find this process's GPUs without opening them; never raises.

    The result is cached, since the CUDA driver reads ``CUDA_VISIBLE_DEVICES`` once per process.
    GPUs have the order of nvidia-smi unless ``CUDA_DEVICE_ORDER`` is set.
    """
    if importlib.util.find_spec("cupy") is None:
        driver = _driver_without_cupy()
        return Gpus(driver=_version(driver), reason=f"CuPy is not installed: {_wheel(driver)}")
    # CUDA's default puts the fastest GPU first; workers and batch systems count as nvidia-smi.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        import cupy
        from cupy.cuda import nvrtc, runtime

        driver, built_for = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except Exception as error:  # a broken installation raises anything
        return Gpus(reason=_explain_import_error(error))
    known = {"driver": _version(driver), "runtime": _version(built_for), "cupy": cupy.__version__}
    try:
        count = runtime.getDeviceCount()
    except Exception as error:
        return Gpus(**known, reason=_explain_no_devices(error, driver, built_for))
    if count == 0:
        return Gpus(**known, reason=_explain_none_visible())
    try:
        compiler = nvrtc.getVersion()[0]
    except Exception as error:
        return Gpus(
            **known,
            reason=f"CuPy finds no NVRTC, CUDA's compiler ({last_line(error)}): "
            f"pip install nvidia-cuda-nvrtc{'-cu12' if built_for < 13000 else ''}",
        )
    if lack := _why_no_headers(cupy.__version__, built_for) or _why_no_cache():
        return Gpus(**known, reason=lack)
    try:
        found = [runtime.getDeviceProperties(i) for i in range(count)]
    except Exception as error:
        return Gpus(**known, reason=_explain_silence(error))
    names = tuple(_text(gpu["name"]) for gpu in found)
    capabilities = tuple((int(gpu["major"]), int(gpu["minor"])) for gpu in found)
    return Gpus(
        ids=_ids(count),
        names=names,
        memory_bytes=tuple(int(gpu["totalGlobalMem"]) for gpu in found),
        capabilities=capabilities,
        **known,
        reason=_explain_too_old(names, capabilities, compiler),
    )


def shown_gpus() -> tuple[str, ...] | None:
    """Return the numbers or UUIDs in ``CUDA_VISIBLE_DEVICES``; None if it is not set.

    As in CUDA, the list ends at the first entry that is not a GPU, such as -1.
    """
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    shown: list[str] = []
    for device in map(str.strip, value.split(",")):
        if not (device.isdecimal() or device.startswith(("GPU-", "MIG-"))):
            break
        shown.append(device)
    return tuple(shown)


def first_gpu_name() -> str:
    """Return the name of the first visible GPU by the driver alone; empty without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        name, device = ctypes.create_string_buffer(256), ctypes.c_int()
        failed = (
            driver.cuInit(0)
            or driver.cuDeviceGet(ctypes.byref(device), 0)
            or driver.cuDeviceGetName(name, len(name), device)
        )
    except (OSError, AttributeError):
        return ""
    return "" if failed else name.value.decode(errors="replace")


def usable_cupy() -> Any:
    """Return the module cupy; BackendError if this process cannot use a GPU."""
    found = gpus()
    if not found.available:
        raise BackendError(f"device cuda cannot be used here: {found.reason}")
    return importlib.import_module("cupy")


def _ids(count: int) -> tuple[str, ...]:
    shown = shown_gpus()
    if shown is None:
        return tuple(map(str, range(count)))
    # A process can open only one MIG instance, and CUDA counts one; but each worker has its own.
    return shown if shown and shown[0].startswith("MIG-") else shown[:count]


def _explain_no_devices(error: Exception, driver: int, built_for: int) -> str:
    if driver == 0:
        return (
            "CuPy is installed but there is no NVIDIA driver (no libcuda.so.1): on a machine with "
            "an NVIDIA GPU install its driver, until nvidia-smi lists the GPU; in a container, "
            "start it with the GPUs (docker run --gpus all)"
        )
    status = getattr(error, "status", None)
    if status == NO_DEVICE:
        return _explain_none_visible()
    if status == INSUFFICIENT_DRIVER:
        if driver < 12000:
            way_out = "update the driver"
        else:
            installed = f"cupy-cuda{built_for // 1000}x"
            way_out = f"pip uninstall {installed}, then {_wheel(driver)}; or update the driver"
        return (
            f"the installed CuPy is built for CUDA {_version(built_for)}, the NVIDIA driver here "
            f"goes up to CUDA {_version(driver)}: {way_out}"
        )
    return _explain_silence(error)


def _explain_none_visible() -> str:
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return (
            "there is an NVIDIA driver but no GPU: nvidia-smi -L should list one, and with MIG on "
            "a MIG device below it (nvidia-smi mig -cgi makes some); in a batch job ask for a GPU, "
            "as sbatch --gres=gpu:1 does"
        )
    return (
        f"CUDA_VISIBLE_DEVICES={value!r} shows flowpipe no GPU of this machine: unset it or name "
        "one that nvidia-smi -L lists, with MIG on a MIG device; in a batch job ask for one, as "
        "sbatch --gres=gpu:1 does"
    )


def _explain_silence(error: Exception) -> str:
    return f"the NVIDIA driver does not answer ({last_line(error)}): {advice(error)}"


def _explain_import_error(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:  # a library that is missing has none
        return why_no_cache(error)
    return (
        f"CuPy is installed but does not work ({last_line(error)}): uninstall every cupy package "
        f"that pip list shows, then {_wheel(_driver_without_cupy() or 12000)}"
    )


def _why_no_headers(version: str, built_for: int) -> str:
    """Return why CuPy cannot compile, or "": since version 14 a kernel needs CUDA's headers."""
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) < 14:
        return ""
    try:
        from cuda.pathfinder import find_nvidia_header_directory

        found = find_nvidia_header_directory("cudart")
    except Exception:  # another version looks for them in another way
        return ""
    return "" if found else why_no_headers(built_for)


def _why_no_cache() -> str:
    """Return why CuPy cannot cache compiled kernels, or "" if it can or has some already."""
    folder = Path(cache_folder())
    if os.environ.get(CACHE_OFF) == "1" or any(folder.glob("*.cubin")):
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return why_no_cache(error)


def _explain_too_old(
    names: tuple[str, ...], capabilities: tuple[tuple[int, int], ...], compiler: int
) -> str:
    oldest = OLDEST.get(compiler, max(OLDEST.values()))
    for i, (name, capability) in enumerate(zip(names, capabilities, strict=True)):
        if capability < oldest:
            cure = "leave it out of CUDA_VISIBLE_DEVICES, or use --device cpu"
            if compiler >= 13 and capability >= OLDEST[12]:
                cure = (
                    "install CuPy for CUDA 12 (pip uninstall cupy-cuda13x nvidia-cuda-nvrtc, then "
                    f"{install_command('cuda')}), or {cure}"
                )
            return (
                f"GPU {i}, {name}, has compute capability {_format_capability(capability)}; "
                f"CUDA {compiler} as CuPy uses it compiles for {_format_capability(oldest)} and "
                f"later: {cure}"
            )
    return ""


def _wheel(driver: int) -> str:
    """Return what to install for a driver's CUDA version such as 12080, 0 for no driver."""
    if driver == 0:
        return (
            "there is no NVIDIA driver either (no libcuda.so.1); install the GPU's driver, then "
            + install_command("cuda")
        )
    if driver < 12000:
        return (
            f"the NVIDIA driver here goes up to CUDA {_version(driver)} only; update it, then "
            + install_command("cuda")
        )
    if driver < 13000:
        return f"{install_command('cuda')}, which is cupy-cuda12x with what it needs"
    return "pip install 'cupy-cuda13x[ctk]'"


def _driver_without_cupy() -> int:
    """Return the CUDA version of the driver, such as 12080; 0 without one."""
    try:
        version = ctypes.c_int()
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else version.value


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _format_capability(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
