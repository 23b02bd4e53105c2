"""Host threads -> a CUDA stream each, and copies that nobody waits for before they are used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.cuda.errors import in_words
from flowpipe.ops.cuda.launches import Launches
from flowpipe.ops.waits import Waits

T = TypeVar("T")


class Lane:
    """A stream, and the host memory of its copies under way.

    Copies go through pinned memory, which the device reads and writes by itself; CuPy's pool gives
    it out again as soon as nobody holds it, so the lane does until a copy is done.

    Parameters
    ----------
    cupy : module
    waits : Waits
        Keeps the time that threads wait for copies.
    """

    def __init__(self, cupy: Any, waits: Waits) -> None:
        self._cupy, self._waits = cupy, waits
        with in_words(cupy):
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self.launches = Launches(self.stream)
        self._under_way: list[tuple[Any, Any]] = []
        self._taken: Any = None
        """An event after the last `copy`, until somebody has waited for it."""

    @contextmanager
    def working(self) -> Iterator[Lane]:
        """Make this lane's stream the current one.

        Kernels that start within are launched when the outermost such context ends, or before.
        Errors of CUDA are raised as flowpipe's.
        """
        with in_words(self._cupy), self.stream, self.launches.collected():
            yield self

    def upload(self, source: NDArray[Any], target: Any) -> None:
        """Copy to the device; `source` may change when this returns."""
        buffer = self._pinned(source.shape, source.dtype)
        buffer[...] = source
        self.launches.flush()
        target.set(buffer, stream=self.stream)
        self._note(buffer)

    def download(self, source: Any, part: Any = ...) -> Download:
        """Copy from the device what this lane's stream, or nobody, is about to write.

        Parameters
        ----------
        source : cupy.ndarray
        part : index, optional
            What of it is wanted.
        """
        buffer = self._pinned(source.shape, source.dtype)
        self.launches.flush()
        source.get(stream=self.stream, out=buffer, blocking=False)
        return Download(self._wait_for, buffer[part], self._note(buffer))

    def copy(self, parts: Sequence[tuple[int, int]], target: Any) -> None:
        """Copy parts (address, bytes) of the device's memory, one behind the other, to an array."""
        kind = self._cupy.cuda.runtime.memcpyDeviceToDevice
        self._copy(parts, target.data.ptr, kind)
        self._taken = self._note(target)

    def fetch(self, parts: Sequence[tuple[int, int]]) -> Download:
        """Copy parts (address, bytes) of the device's memory to the host: uint8 (bytes,)."""
        buffer = self._pinned((sum(size for _, size in parts),), np.uint8)
        self._copy(parts, buffer.ctypes.data, self._cupy.cuda.runtime.memcpyDeviceToHost)
        return Download(self._wait_for, buffer, self._note(buffer))

    def _copy(self, parts: Sequence[tuple[int, int]], to: int, kind: int) -> None:
        self.launches.flush()
        for address, size in parts:
            self._cupy.cuda.runtime.memcpyAsync(to, address, size, kind, self.stream.ptr)
            to += size

    def settle(self) -> None:
        """Wait until everything is copied that `copy` was asked for."""
        if self._taken is not None:
            self._wait_for(self._taken)
            self._taken = None

    def launch(self, graph: Any) -> None:
        """Launch a recorded graph, behind all that was launched before."""
        self.launches.flush()
        graph.launch(self.stream)

    def follow(self, event: Any) -> None:
        """Have the stream wait for an event before it goes on."""
        self.launches.flush()
        self.stream.wait_event(event)

    def _wait_for(self, event: Any) -> None:
        with in_words(self._cupy), self._waits.waiting():
            event.synchronize()

    def mark(self) -> Any:
        """An event after all that the stream has to do by now."""
        self.launches.flush()
        # Who waits for it sleeps: cores are for decoding and encoding.
        event = self._cupy.cuda.Event(block=True, disable_timing=True)
        event.record(self.stream)
        return event

    def _note(self, buffer: Any) -> Any:
        """An event after all that the stream has to do by now; the buffer is held until then."""
        event = self.mark()
        self._under_way = [copy for copy in self._under_way if not copy[0].done]
        self._under_way.append((event, buffer))
        return event

    def _pinned(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        dtype, count = np.dtype(dtype), int(np.prod(shape))
        memory = self._cupy.cuda.alloc_pinned_memory(max(1, count * dtype.itemsize))
        return np.frombuffer(memory, dtype, count).reshape(shape)


class Download:
    """An array on its way from the device. NumPy takes it for an array, and waits for it."""

    def __init__(self, wait_for: Callable[[Any], None], host: NDArray[Any], there: Any) -> None:
        self.shape, self.dtype, self.ndim = host.shape, host.dtype, host.ndim
        self._wait_for, self._host, self._there = wait_for, host, there

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        self._wait_for(self._there)
        host = self._host if dtype is None else self._host.astype(dtype, copy=False)
        return host.copy() if copy else host


class Made:
    """A device array for any thread to fetch: it comes down on the stream of whoever wants it,
    while the one that makes it goes on. NumPy takes it for an array.

    Parameters
    ----------
    lanes : Lent of Lane
    array : cupy.ndarray
        The stream of this thread's lane is about to write it.
    written : cupy.cuda.Event, optional
        Event after which it is written; by default after all that this thread's stream has to do.
    """

    def __init__(self, lanes: Lent[Lane], array: Any, written: Any = None) -> None:
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self._lanes, self._array = lanes, array
        self._written = written or lanes.mine.mark()

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, part: slice) -> Made:
        return Made(self._lanes, self._array[part], self._written)

    def taken(self) -> Any:
        """The device array, after which the stream of this thread's lane waits."""
        self._lanes.mine.follow(self._written)
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        with self._lanes.mine.working() as lane:
            return np.array(lane.download(self.taken()), dtype, copy=copy)


class Lent(Generic[T]):
    """Thread-local pool: gives a thread the object of a finished thread, else a new one.

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
    """Returns its object to the pool when its thread ends."""

    def __init__(self, thing: T, idle: list[T]) -> None:
        self.thing, self._idle = thing, idle

    def __del__(self) -> None:
        self._idle.append(self.thing)
