"""CudaOps on the emulator: g++ compiles kernels/cuda, and cuda_stand_in takes the place of CuPy."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STAND_IN = Path(__file__).resolve().parent / "cuda_stand_in"


@contextmanager
def cupy_from(folder: Path) -> Iterator[None]:
    """Import another CuPy in this process; later imports get the real one."""
    from flowpipe.ops.cuda.devices import gpus

    real = {name: sys.modules.pop(name) for name in list(sys.modules) if is_cupy(name)}
    sys.path.insert(0, str(folder))
    gpus.cache_clear()
    try:
        yield
    finally:
        gpus.cache_clear()
        sys.path.remove(str(folder))
        for name in list(filter(is_cupy, sys.modules)):
            del sys.modules[name]
        sys.modules.update(real)


def emulated_ops(**properties: int):
    """Return the CUDA backend's operations, run on the CPU.

    Parameters
    ----------
    **properties : int
        Properties of the GPU by their names in CUDA, as ``l2CacheSize``.
    """
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to compile the emulated kernels")
    from flowpipe.ops.cuda.operations import CudaOps

    with cupy_from(STAND_IN):
        import cupy

        cupy.cuda.properties.update(properties)
        return CudaOps()


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Let collections see only what is made inside: memory that runs short causes dozens."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def is_cupy(name: str) -> bool:
    return name.partition(".")[0] in ("cupy", "cuda")
