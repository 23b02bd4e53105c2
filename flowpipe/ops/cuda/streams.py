"""Host threads -> one CUDA stream each, with asynchronous copies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.cuda.errors import translate_errors
from flowpipe.ops.cuda.launches import LaunchCollector
from flowpipe.ops.waits import WaitTimes

T = TypeVar("T")


class CudaStream:
    """CUDA stream, and the pinned host memory of its copies under way.

    The device reads and writes pinned memory asynchronously. CuPy's pool reuses it once it is
    unreferenced, so it is referenced here until its copy is done.

    Parameters
    ----------
    cupy : module
        CuPy.
    waits : WaitTimes
        Record of the time that threads wait for copies.
    """

    def __init__(self, cupy: Any, waits: WaitTimes) -> None:
        self._cupy, self._waits = cupy, waits
        with translate_errors(cupy):
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self.launches = LaunchCollector(self.stream)
        self._under_way: list[tuple[Any, Any]] = []
        self._taken: Any = None
        """Event after the last `copy`, until a thread has waited for it."""

    @contextmanager
    def activate(self) -> Iterator[CudaStream]:
        """Make this stream the current one.

        Kernels in the block are launched when the outermost such context ends, or earlier. Errors
        of CUDA are raised as flowpipe's.
        """
        with translate_errors(self._cupy), self.stream, self.launches.collect():
            yield self

    def upload(self, source: NDArray[Any], target: Any) -> None:
        """Copy an array to the device.

        Parameters
        ----------
        source : array
            Array on the host; it may change after this returns.
        target : cupy.ndarray
            Array of the same shape and type.
        """
        buffer = self._allocate_pinned(source.shape, source.dtype)
        buffer[...] = source
        self.launches.flush()
        target.set(buffer, stream=self.stream)
        self._note(buffer)

    def download(self, source: Any, part: Any = ...) -> Download:
        """Copy an array that only this stream may be writing from the device, asynchronously.

        Parameters
        ----------
        source : cupy.ndarray
            Array on the device.
        part : index, optional
            Part to return.

        Returns
        -------
        Download
            The copy under way.
        """
        buffer = self._allocate_pinned(source.shape, source.dtype)
        self.launches.flush()
        source.get(stream=self.stream, out=buffer, blocking=False)
        return Download(self._wait_for, buffer[part], self._note(buffer))

    def copy(self, parts: Sequence[tuple[int, int]], target: Any) -> None:
        """Copy parts of device memory, concatenated, to a device array.

        Parameters
        ----------
        parts : sequence of (int, int)
            Address and bytes of each part.
        target : cupy.ndarray
            Array of the size of all parts.
        """
        kind = self._cupy.cuda.runtime.memcpyDeviceToDevice
        self._copy(parts, target.data.ptr, kind)
        self._taken = self._note(target)

    def fetch(self, parts: Sequence[tuple[int, int]]) -> Download:
        """Copy parts of device memory to the host.

        Parameters
        ----------
        parts : sequence of (int, int)
            Address and bytes of each part.

        Returns
        -------
        Download
            Bytes of all parts, uint8 (bytes,), under way.
        """
        buffer = self._allocate_pinned((sum(size for _, size in parts),), np.uint8)
        self._copy(parts, buffer.ctypes.data, self._cupy.cuda.runtime.memcpyDeviceToHost)
        return Download(self._wait_for, buffer, self._note(buffer))

    def _copy(self, parts: Sequence[tuple[int, int]], to: int, kind: int) -> None:
        self.launches.flush()
        for address, size in parts:
            self._cupy.cuda.runtime.memcpyAsync(to, address, size, kind, self.stream.ptr)
            to += size

    def wait_for_copies(self) -> None:
        """Wait until all calls of `copy` are done."""
        if self._taken is not None:
            self._wait_for(self._taken)
            self._taken = None

    def launch(self, graph: Any) -> None:
        """Launch a recorded graph after all earlier launches.

        Parameters
        ----------
        graph : cupy.cuda.Graph
            Recorded graph.
        """
        self.launches.flush()
        graph.launch(self.stream)

    def wait_for_stream(self, event: Any) -> None:
        """Make the stream wait for an event.

        Parameters
        ----------
        event : cupy.cuda.Event
            Event of another stream.
        """
        self.launches.flush()
        self.stream.wait_event(event)

    def _wait_for(self, event: Any) -> None:
        with translate_errors(self._cupy), self._waits.measure_wait():
            event.synchronize()

    def record_event(self) -> Any:
        """Return an event after all work that is now on the stream."""
        self.launches.flush()
        # Waiting threads sleep, since the cores are needed to decode and encode.
        event = self._cupy.cuda.Event(block=True, disable_timing=True)
        event.record(self.stream)
        return event

    def _note(self, buffer: Any) -> Any:
        """Return an event after all work that is now on the stream; keep the buffer until then."""
        event = self.record_event()
        self._under_way = [copy for copy in self._under_way if not copy[0].done]
        self._under_way.append((event, buffer))
        return event

    def _allocate_pinned(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        dtype, count = np.dtype(dtype), int(np.prod(shape))
        memory = self._cupy.cuda.alloc_pinned_memory(max(1, count * dtype.itemsize))
        return np.frombuffer(memory, dtype, count).reshape(shape)


class Download:
    """Array that is being copied from the device; conversion to NumPy waits for the copy.

    Parameters
    ----------
    wait_for : callable
        Waits for an event.
    host : array
        Pinned memory that is written.
    there : cupy.cuda.Event
        Event after which it is complete.
    """

    def __init__(self, wait_for: Callable[[Any], None], host: NDArray[Any], there: Any) -> None:
        self.shape, self.dtype, self.ndim = host.shape, host.dtype, host.ndim
        self._wait_for, self._host, self._there = wait_for, host, there

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        self._wait_for(self._there)
        host = self._host if dtype is None else self._host.astype(dtype, copy=False)
        return host.copy() if copy else host


class SharedArray:
    """Device array that any thread may download, on its own stream.

    The stream that wrote it goes on meanwhile. NumPy converts it.

    Parameters
    ----------
    streams : ThreadLocalPool of CudaStream
        Stream of each thread.
    array : cupy.ndarray
        Array that this thread's stream writes.
    written : cupy.cuda.Event, optional
        Event after which it is complete; default: after all work now on this thread's stream.
    """

    def __init__(
        self, streams: ThreadLocalPool[CudaStream], array: Any, written: Any = None
    ) -> None:
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self._streams, self._array = streams, array
        self._written = written or streams.get().record_event()

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, part: slice) -> SharedArray:
        return SharedArray(self._streams, self._array[part], self._written)

    def on_current_stream(self) -> Any:
        """Return the device array; this thread's stream waits until it is complete."""
        self._streams.get().wait_for_stream(self._written)
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        with self._streams.get().activate() as stream:
            return np.array(stream.download(self.on_current_stream()), dtype, copy=copy)


class ThreadLocalPool(Generic[T]):
    """Thread-local pool: a thread gets the object of a finished thread, else a new one.

    Parameters
    ----------
    make : callable
        Makes an object.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._idle, self._local = make, list[T](), threading.local()

    def get(self) -> T:
        """Return the object of this thread."""
        pooled: PooledObject[T] | None = getattr(self._local, "pooled", None)
        if pooled is None:
            try:
                value = self._idle.pop()
            except IndexError:
                value = self._make()
            pooled = self._local.pooled = PooledObject(value, self._idle)
        return pooled.value


class PooledObject(Generic[T]):
    """Object of a pool, which returns to it when its thread ends.

    Parameters
    ----------
    value : T
        The object.
    idle : list of T
        Objects without a thread.
    """

    def __init__(self, value: T, idle: list[T]) -> None:
        self.value, self._idle = value, idle

    def __del__(self) -> None:
        self._idle.append(self.value)
