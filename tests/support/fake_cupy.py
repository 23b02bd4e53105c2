"""Stand-in of CuPy without kernels: proves what flowpipe says of GPUs, not what they compute."""

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
    return {
        "name": name.encode(), "major": major, "minor": minor, "totalGlobalMem": 40 << 30,
        "l2CacheSize": 40 << 20, "multiProcessorCount": 108,
    }

def memGetInfo():
    return 40 << 30, 40 << 30
'''

PACKAGE = """
import os
from cupy import cuda, settings

__version__ = "14.2.0"
# As CuPy does when it is imported.
os.makedirs(
    os.environ.get("CUPY_CACHE_DIR") or os.path.expanduser("~/.cupy/kernel_cache"), exist_ok=True
)

class ndarray:
    class flags:
        c_contiguous = True

    class data:
        ptr = 0

    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)

    def set(self, source, stream=None):
        pass

    def get(self, stream=None, out=None, blocking=True):
        out.fill(0)

def empty(shape, dtype):
    return ndarray(shape, dtype)

class RawModule:
    def __init__(self, code, options):
        pass

    def get_function(self, name):
        if settings.COMPILING:
            raise settings.COMPILING
        return lambda grid, block, arguments: None
"""

CUDA = """
from cupy import settings
from cupy.cuda import nvrtc, runtime

class Opened:
    def __init__(self, *arguments, **options):
        if settings.OPENING:
            raise runtime.CUDARuntimeError(*settings.OPENING)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

class Device(Opened):
    def __init__(self, number=0):
        self.id = number

    def __enter__(self):
        Opened()  # since CUDA 12
        return self

class Stream(Opened):
    pass

class Event(Opened):
    done = True

    def record(self, stream):
        pass

    def synchronize(self):
        pass

def alloc_pinned_memory(nbytes):
    return bytearray(nbytes)

class memory:
    class OutOfMemoryError(MemoryError):
        pass

class driver:
    class CUDADriverError(RuntimeError):
        pass
"""

PATHFINDER = """
from cupy.settings import HEADERS

def find_nvidia_header_directory(name):
    assert name == "cudart"
    return "/usr/local/cuda/include" if HEADERS else None
"""

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
    headers: bool = True,
    opening: tuple[int, str] | None = None,
    compiling: BaseException | None = None,
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
    headers : bool
        Whether there are headers of CUDA.
    opening : (status, words), optional
        What a GPU raises that is opened.
    compiling : exception, optional
        What compiling a kernel raises.
    """
    package = folder / "cupy"
    (package / "cuda").mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    (package / "cuda" / "__init__.py").write_text(CUDA)
    (folder / "cuda").mkdir()
    (folder / "cuda" / "__init__.py").touch()
    (folder / "cuda" / "pathfinder.py").write_text(PATHFINDER)
    (package / "cuda" / "runtime.py").write_text(RUNTIME)
    (package / "cuda" / "nvrtc.py").write_text(NVRTC)
    (package / "settings.py").write_text(
        f"GPUS = {list(gpus)}\nDRIVER, RUNTIME, NVRTC = {driver}, {runtime}, {nvrtc}\n"
        f"ERROR, HEADERS, OPENING, COMPILING = {error!r}, {headers}, {opening!r}, {compiling!r}\n"
    )
    return folder
