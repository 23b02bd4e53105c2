"""A package `cupy` that answers as the real one does with some driver and some GPUs."""

from __future__ import annotations

from pathlib import Path

A100, TITAN_X, V100, GTX_860M = (
    ("NVIDIA A100", 8, 0), ("NVIDIA TITAN X", 5, 2), ("Tesla V100", 7, 0), ("GTX 860M", 5, 0),
)  # fmt: skip

RUNTIME = '''
import os
from cupy.settings import *

class CUDARuntimeError(RuntimeError):
    def __init__(self, status, words):
        super().__init__(words)
        self.status = status

def driverGetVersion():
    return DRIVER

def runtimeGetVersion():
    return RUNTIME

def visible():
    """As the driver reads CUDA_VISIBLE_DEVICES: what is no GPU ends the list."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return GPUS
    uuids = {f"GPU-{i}": gpu for i, gpu in enumerate(GPUS)}
    found = []
    for device in shown.split(","):
        if device in uuids:
            found.append(uuids[device])
        elif device.startswith("MIG-") and not found:
            return [GPUS[0]]
        elif device.isdecimal() and int(device) < len(GPUS):
            found.append(GPUS[int(device)])
        else:
            break
    return found

def getDeviceCount():
    if ERROR:
        raise CUDARuntimeError(*ERROR)
    if DRIVER // 1000 < RUNTIME // 1000:
        raise CUDARuntimeError(35, "cudaErrorInsufficientDriver: CUDA driver version is "
                               "insufficient for CUDA runtime version")
    if not visible():
        raise CUDARuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected")
    return len(visible())

def getDeviceProperties(i):
    name, major, minor = visible()[i]
    return {"name": name.encode(), "major": major, "minor": minor, "totalGlobalMem": 40 << 30}
'''

NVRTC = """
from cupy.settings import *

def getVersion():
    if NVRTC is None:
        raise RuntimeError("CuPy failed to load libnvrtc.so.12: OSError")
    return NVRTC, 0
"""


def write_cupy(
    folder: Path,
    *gpus: tuple[str, int, int],
    driver: int = 12080,
    runtime: int = 12090,
    nvrtc: int | None = 12,
    error: tuple[int, str] | None = None,
) -> Path:
    """Write the package into a folder, which is returned to be put on PYTHONPATH.

    Parameters
    ----------
    folder : Path
    gpus : (name, major, minor)
        GPUs of the machine and their compute capabilities.
    driver, runtime : int
        CUDA versions, as 12080.
    nvrtc : int, optional
        Major version of CUDA's compiler; None if there is none.
    error : (status, words), optional
        What asking for the GPUs raises.
    """
    package = folder / "cupy"
    (package / "cuda").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "14.2.0"\n')
    (package / "cuda" / "__init__.py").write_text("from cupy.cuda import nvrtc, runtime\n")
    (package / "cuda" / "runtime.py").write_text(RUNTIME)
    (package / "cuda" / "nvrtc.py").write_text(NVRTC)
    (package / "settings.py").write_text(
        f"GPUS = {list(gpus)}\nDRIVER, RUNTIME, NVRTC = {driver}, {runtime}, {nvrtc}\n"
        f"ERROR = {error!r}\n"
    )
    return folder
