"""Device name -> Ops: the one seam between what is computed and where it is computed.

Every backend has the operations of `protocol` under the same names; `reference` is the one to read.
"""

from __future__ import annotations

from flowpipe.errors import BackendError
from flowpipe.ops.protocol import FeatureOps, Keypoints, Ops, Points, TVL1Model, TVL1State

__all__ = ["DEVICES", "FeatureOps", "Keypoints", "Ops", "Points", "TVL1Model", "TVL1State"]
__all__ += ["get_ops", "kept_ops", "own_features"]

DEVICES = ("cpu", "cuda", "reference")


def own_features(device: str) -> bool:
    """Return `FeatureOps.own` of a device without opening it."""
    from flowpipe.ops.cpu import native_core

    return device == "cuda" or (device == "cpu" and native_core().available)


def get_ops(device: str = "cpu", isa: str | None = None) -> Ops:
    """The operations of a device.

    Parameters
    ----------
    device : {"cpu", "cuda", "reference"}
        ``cuda`` is the first GPU that this process sees.
    isa : {"baseline", "avx2", "avx512"}, optional
        Force an instruction set of the CPU core; the best this CPU has by default, or what the
        environment variable ``FLOWPIPE_ISA`` says.

    Raises
    ------
    BackendError
        If the device is unknown, or the instruction set is not compiled in or not in this CPU, or
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
    raise BackendError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")


def kept_ops(device: str = "cpu") -> Ops:
    """Return the operations of a device; those of a GPU are made once for this process.

    So compiled kernels, memory of the GPU and recorded graphs serve all threads and all calls that
    follow. Parameters and errors are those of `get_ops`.
    """
    if device == "cuda":
        from flowpipe.ops.cuda.process import kept

        return kept()
    return get_ops(device)


def gpu_memory() -> int:
    """Return the free bytes of the first GPU that this process sees; takes some for a context.

    Raises
    ------
    BackendError
        If the GPU cannot be used, or not by this process beside others.
    """
    from flowpipe.ops.cuda.process import free_bytes

    return free_bytes()
