"""Device name -> Ops: the interface between algorithms and devices.

Every backend has the operations of `protocol` under the same names. Read `reference` first.
"""

from __future__ import annotations

from flowpipe.errors import BackendError
from flowpipe.ops.feature_protocol import Keypoints, Points
from flowpipe.ops.protocol import Ops
from flowpipe.ops.tvl1_protocol import TVL1Model
from flowpipe.words import unknown_name

__all__ = ["DEVICES", "Keypoints", "Ops", "Points", "TVL1Model"]
__all__ += ["get_ops", "cached_ops", "own_features"]

DEVICES = ("cpu", "cuda", "reference")


def own_features(device: str) -> bool:
    """Return `FeatureOps.own` of a device without opening it.

    Parameters
    ----------
    device : str
        One of `DEVICES`.

    Returns
    -------
    bool
        True if the device detects features by code of its own.
    """
    from flowpipe.ops.cpu import native_core

    return device == "cuda" or (device == "cpu" and native_core().available)


def get_ops(device: str = "cpu", isa: str | None = None) -> Ops:
    """Return the operations of a device.

    Parameters
    ----------
    device : {"cpu", "cuda", "reference"}
        ``cuda`` is the first GPU that this process sees.
    isa : {"baseline", "avx2", "avx512"}, optional
        Instruction set of the CPU core. Default: ``FLOWPIPE_ISA``, else the best of this CPU.

    Returns
    -------
    Ops
        The operations.

    Raises
    ------
    BackendError
        If the device is unknown, the instruction set is not compiled in or not in this CPU, or
        there is no GPU or no CuPy.
    """
    if device == "cpu":
        from flowpipe.ops.cpu import CpuOps

        return CpuOps(isa)
    if device == "cuda":
        from flowpipe.ops.cuda.operations import CudaOps

        return CudaOps()
    if device == "reference":
        from flowpipe.ops.reference import ReferenceOps

        return ReferenceOps()
    raise BackendError(unknown_name("device", device, DEVICES))


def cached_ops(device: str = "cpu") -> Ops:
    """Return the operations of a device; a process has one object for its GPU.

    All threads and calls therefore share compiled kernels, GPU memory and recorded graphs. Errors
    are those of `get_ops`.

    Parameters
    ----------
    device : str
        One of `DEVICES`.

    Returns
    -------
    Ops
        The operations.
    """
    if device == "cuda":
        from flowpipe.ops.cuda import process

        return process.cached_ops()
    return get_ops(device)


def gpu_memory() -> int:
    """Return the free memory of the first visible GPU, bytes; the call creates a CUDA context.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    BackendError
        If this process cannot use the GPU.
    """
    from flowpipe.ops.cuda.process import free_bytes

    return free_bytes()
