"""Stand-in of CuPy: proves results and order of flowpipe's calls, not that a GPU gives the same.

The few calls of CuPy that flowpipe makes work on the CPU, and kernels run in kernels/emulator. A
process uses the stand-in when cuda_stand_in is on its path. It is strict where CuPy is lax or a GPU
is silent: its arrays do not mix with NumPy's, device memory is filled with NaN, and a launch
without a stream or with an argument of another type is an error. A stream runs only when somebody
waits for it, so whoever reads too early reads NaN. It cannot show how a GPU rounds, what memory and
registers it has, and how long anything takes.
"""

from __future__ import annotations

import ctypes
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np

from cupy import cuda, modules
from cupy.modules import RawModule

__all__ = ["RawModule", "cuda", "empty", "get_default_memory_pool", "ndarray"]
__version__ = "stand-in"


class _Flags:
    def __init__(self, host: np.ndarray) -> None:
        self.c_contiguous = host.flags.c_contiguous


class ndarray:  # noqa: N801 - CuPy's name
    """Device memory: only kernels, copies and slices get at it."""

    __array__ = None  # NumPy must not read it
    __array_ufunc__ = None

    def __init__(self, host: np.ndarray) -> None:
        self._host = host
        self.shape, self.dtype, self.strides = host.shape, host.dtype, host.strides
        self.ndim, self.size, self.nbytes = host.ndim, host.size, host.nbytes
        self.flags = _Flags(host)
        self.data = SimpleNamespace(ptr=host.ctypes.data | cuda.DEVICE)

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, index: Any) -> ndarray:
        view = self._host[index]
        assert isinstance(view, np.ndarray) and view.base is not None, "only slices are views"
        return ndarray(view)

    def reshape(self, *shape: int) -> ndarray:
        return ndarray(self._host.reshape(*shape))

    def fill(self, value: Any) -> None:
        cuda.call("memset")
        cuda.current_stream().enqueue(lambda: self._host.fill(value))

    def set(self, source: np.ndarray, stream: Any = None) -> None:
        cuda.call("memcpyHostToDevice")
        assert isinstance(source, np.ndarray) and source.flags.c_contiguous
        assert source.shape == self.shape and source.dtype == self.dtype
        stream = stream or cuda.current_stream()
        # A copy keeps nothing: neither this memory, which its stream reuses in order, nor pinned.
        to, address, nbytes = self._host.ctypes.data, source.ctypes.data, self.nbytes
        if cuda.is_pinned(source):
            stream.enqueue(lambda: ctypes.memmove(to, address, nbytes))
        else:  # the driver takes it before it returns
            taken = source.copy()
            stream.enqueue(lambda: ctypes.memmove(to, taken.ctypes.data, nbytes))

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        cuda.call("memcpyDeviceToHost")
        assert self.flags.c_contiguous, "a device array with gaps is copied by a kernel first"
        stream = stream or cuda.current_stream(or_default=True)
        if out is None:
            out = np.empty(self.shape, self.dtype)
        assert out.shape == self.shape and out.dtype == self.dtype and out.flags.c_contiguous
        if not blocking:
            assert cuda.is_pinned(out), "an asynchronous copy needs pinned memory"
        address = out.ctypes.data
        stream.enqueue(lambda: ctypes.memmove(address, self._host.ctypes.data, self.nbytes))
        if blocking:
            stream.synchronize()
        return out


modules.ndarray = ndarray


def empty(shape: Any, dtype: Any = float) -> ndarray:
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    cuda.memory.take(nbytes)
    # As from CuPy's pool: a stream gets blocks back that it had, whatever it has still to do with
    # them; the one with the lowest address first, so calls of one kind find theirs again.
    stream = cuda.innermost_stream()
    idle = {} if stream is None else stream.idle.setdefault(nbytes, {})
    if idle:
        block = idle.pop(min(idle))
        stream.enqueue(lambda: block.fill(0xFF))
    else:
        # Addresses are multiples of 256. One row more: nothing lies right behind it.
        block = np.full(nbytes + 256, 0xFF, np.uint8)

    def give_back() -> None:
        cuda.memory.give_back(nbytes)
        idle[block.ctypes.data] = block

    view = block[:]
    weakref.finalize(view, give_back)
    raw = np.frombuffer(memoryview(view), np.uint8)  # whose base is the view
    start = -raw.ctypes.data % 256
    return ndarray(raw[start : start + nbytes].view(dtype).reshape(shape))


class _Pool:
    def free_bytes(self) -> int:
        return 0

    def used_bytes(self) -> int:
        return cuda.memory.used

    def free_all_blocks(self) -> None:
        pass


def get_default_memory_pool() -> _Pool:
    return _Pool()
