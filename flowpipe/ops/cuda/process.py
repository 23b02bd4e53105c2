"""This process -> its operations on a GPU, the free memory there, or why it has none."""

from __future__ import annotations

import functools
from threading import Lock
from typing import Any

from flowpipe.errors import BackendError
from flowpipe.ops.cuda.devices import usable_cupy
from flowpipe.ops.cuda.errors import translate_opening_errors
from flowpipe.ops.cuda.operations import CudaOps

_making = Lock()


def cached_ops() -> CudaOps:
    """Return the operations of this process on its GPU, created on first use.

    Returns
    -------
    CudaOps
        The operations.

    Raises
    ------
    BackendError
        If there is no GPU that can be used; the next call tries again.
    """
    with _making:  # concurrent first calls create one object
        return _make_with(usable_cupy())


@functools.cache
def _make_with(cupy: Any) -> CudaOps:
    return CudaOps()


def free_bytes() -> int:
    """Return the free memory of the first visible GPU, bytes; BackendError without a GPU."""
    cupy = usable_cupy()
    with translate_opening_errors(cupy):
        return int(cupy.cuda.runtime.memGetInfo()[0])


def why_no_gpu(number: int) -> str:
    """Open a GPU of this process and run a kernel on it.

    Parameters
    ----------
    number : int
        Index of the GPU in `flowpipe.ops.cuda.devices.Gpus.ids`.

    Returns
    -------
    str
        The reason; "" if the GPU works.
    """
    try:
        cupy = usable_cupy()
        with translate_opening_errors(cupy), cupy.cuda.Device(number):
            CudaOps()
    except BackendError as error:
        return str(error)
    return ""
