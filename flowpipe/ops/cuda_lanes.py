"""Host threads -> a CUDA stream each, and copies that nobody waits for before they are used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Lane:
    """A stream, and the host memory of its copies under way."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._kept: list[tuple[Any, Any]] = []

    def keep(self, buffer: NDArray[Any]) -> None:
        """Hold a buffer until what the stream has to do by now, its copy too, is done."""
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(self.stream)
        self._kept = [kept for kept in self._kept if not kept[0].done]
        self._kept.append((event, buffer))


class Lent(Generic[T]):
    """One of its kind for each thread: one that a thread which has ended left, else a new one.

    Parameters
    ----------
    make : callable
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._idle, self._local = make, list[T](), threading.local()

    @property
    def mine(self) -> T:
        """This thread's."""
        loan: Loan[T] | None = getattr(self._local, "loan", None)
        if loan is None:
            try:
                thing = self._idle.pop()
            except IndexError:
                thing = self._make()
            loan = self._local.loan = Loan(thing, self._idle)
        return loan.thing


class Loan(Generic[T]):
    """Goes with the thread that has it; then its thing is idle."""

    def __init__(self, thing: T, idle: list[T]) -> None:
        self.thing, self._idle = thing, idle

    def __del__(self) -> None:
        self._idle.append(self.thing)


class Download:
    """An array on its way from the device. NumPy takes it for an array, and waits for it."""

    def __init__(self, cupy: Any, source: Any, stream: Any) -> None:
        self.shape, self.dtype, self.ndim = source.shape, source.dtype, source.ndim
        self._source = source  # kept until the copy is done
        self._host = pinned(cupy, source.shape, source.dtype)
        self._there = cupy.cuda.Event(disable_timing=True)
        source.get(stream=stream, out=self._host, blocking=False)
        self._there.record(stream)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        self._there.synchronize()
        self._source = None
        host = self._host if dtype is None else self._host.astype(dtype, copy=False)
        return host.copy() if copy else host


def pinned(cupy: Any, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
    """Host memory that the device can copy to and from by itself; CuPy's pool gives it again."""
    dtype, count = np.dtype(dtype), int(np.prod(shape))
    memory = cupy.cuda.alloc_pinned_memory(max(1, count * dtype.itemsize))
    return np.frombuffer(memory, dtype, count).reshape(shape)
