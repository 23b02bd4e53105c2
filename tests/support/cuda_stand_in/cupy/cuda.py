"""Contexts, streams, events, graphs and memory: a stream runs only when somebody waits for it.

The first call that needs a context opens it, and every call counts. By environment variables,
CUDA_STAND_IN_OPENS=STATUS makes opening fail with that status; CUDA_STAND_IN_EXCLUSIVE=FILE puts
the GPU into exclusive-process mode, in which one process at a time has a context, for as long as it
lives. `failing` makes a call of this process fail, and, as on a GPU, all that follow.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import gc
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

DEVICE = 1 << 60
"""Marks an address as one of the device: the host that reads it crashes, as it would on a GPU."""

_streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
_local = threading.local()
_pinned: set[int] = set()  # where they begin; the pool keeps them for good
_idle: dict[int, list[np.ndarray]] = {}


class failing:  # noqa: N801 - a setting, no kind of thing
    calls = 0
    """Calls so far."""
    at = 0
    """From this call on all fail; 0 for none."""
    status = 700
    name = ""
    """The call that failed first."""


def call(name: str) -> None:
    """Note a call that needs a context, and fail if it is to."""
    opened()
    failing.calls += 1
    if failing.at and failing.calls >= failing.at:
        failing.name = failing.name or name
        raise CUDARuntimeError(failing.status)


@functools.cache
def opened() -> Any:
    """Open the context of this process once; a failed attempt is repeated by the next call."""
    if status := os.environ.get("CUDA_STAND_IN_OPENS"):
        raise CUDARuntimeError(int(status))
    if lock := os.environ.get("CUDA_STAND_IN_EXCLUSIVE"):
        file = Path(lock).open("a")  # noqa: SIM115 - until the process ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CUDARuntimeError(46) from None
        return file
    return True


class Stream:
    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "flowpipe never waits for the default stream"
        call("Stream")
        self.ptr = id(self)
        _streams[self.ptr] = self
        self.idle: dict[int, dict[int, np.ndarray]] = {}
        """Blocks of its memory that nobody holds, by size and address."""
        self._queue: deque[Callable[[], None]] = deque()
        self._recorded: list[Callable[[], None]] | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Stream:
        stack = _stack()
        stack.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _stack().pop()

    def enqueue(self, work: Callable[[], None]) -> None:
        if self._recorded is not None:
            self._recorded.append(work)
        else:
            self._queue.append(work)

    @property
    def capturing(self) -> bool:
        return self._recorded is not None

    def synchronize(self) -> None:
        call("Stream.synchronize")
        assert self._recorded is None, "a stream that is being recorded cannot be waited for"
        with self._lock:
            while self._queue:
                self._queue.popleft()()

    def wait_event(self, event: Event) -> None:
        call("Stream.wait_event")
        self.enqueue(event.run_up_to)

    def begin_capture(self) -> None:
        call("Stream.begin_capture")
        self._recorded = []

    def end_capture(self) -> Graph:
        recorded, self._recorded = self._recorded, None
        assert recorded is not None
        return Graph(recorded)


class Graph:
    def __init__(self, recorded: list[Callable[[], None]]) -> None:
        self._recorded = recorded

    def launch(self, stream: Stream) -> None:
        call("Graph.launch")
        for work in self._recorded:
            stream.enqueue(work)


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        call("Event")
        self.done, self._stream = True, None

    def record(self, stream: Stream) -> None:
        call("Event.record")
        self.done, self._stream = False, stream
        stream.enqueue(lambda: setattr(self, "done", True))

    def synchronize(self) -> None:
        call("Event.synchronize")
        self.run_up_to()

    def run_up_to(self) -> None:
        """Run the stream up to this event and no further."""
        stream = self._stream
        if stream is None:
            return
        with stream._lock:
            while not self.done:
                stream._queue.popleft()()


def _stack() -> list[Stream]:
    if not hasattr(_local, "streams"):
        _local.streams = []
    streams: list[Stream] = _local.streams
    return streams


def innermost_stream() -> Stream | None:
    return _stack()[-1] if _stack() else None


def current_stream(or_default: bool = False) -> Stream:
    if not _stack():
        assert or_default, "work without a stream"
        return Stream(non_blocking=True)
    return _stack()[-1]


def alloc_pinned_memory(nbytes: int) -> Any:
    """Allocate as CuPy's pool does: unreferenced memory is reused at once, even during a copy."""
    call("alloc_pinned_memory")
    size = max(512, 1 << (nbytes - 1).bit_length())
    idle = _idle.setdefault(size, [])
    memory = idle.pop() if idle else np.empty(size, np.uint8)
    memory.fill(0xFF)
    _pinned.add(memory.ctypes.data)
    view = memory[:]
    weakref.finalize(view, idle.append, memory)
    return memoryview(view)


def is_pinned(array: np.ndarray) -> bool:
    return array.ctypes.data in _pinned


class memory:  # noqa: N801 - CuPy's name
    class OutOfMemoryError(MemoryError):
        pass

    total = int(os.environ.get("CUDA_STAND_IN_BYTES", 4 << 30))
    shared = os.environ.get("CUDA_STAND_IN_SHARED", "")
    """Folder in which processes tell each other what they take of one GPU."""
    context = (64 << 20) if shared else 0
    used = 0

    @classmethod
    def held(cls) -> int:
        """Return the bytes in use, without garbage, which `take` collects if memory is short."""
        gc.collect()
        return cls.used

    @classmethod
    def free(cls) -> int:
        taken = cls.used + cls.context
        if cls.shared:
            Path(cls.shared, str(os.getpid())).write_text(str(taken))
            for told in Path(cls.shared).iterdir():
                if told.name != str(os.getpid()) and Path("/proc", told.name).exists():
                    taken += int(told.read_text() or 0)
        return cls.total - taken

    @classmethod
    def take(cls, nbytes: int) -> None:
        call("memory")
        if nbytes > cls.free():
            gc.collect()  # as CuPy's pool does before it gives up
        if nbytes > cls.free():
            raise cls.OutOfMemoryError(
                f"Out of memory allocating {nbytes:,} bytes (allocated so far: {cls.used:,} bytes)."
            )
        cls.used += nbytes
        cls.free()

    @classmethod
    def give_back(cls, nbytes: int) -> None:
        cls.used -= nbytes


class Device:
    def __init__(self, number: int = 0) -> None:
        self.id = number

    attributes = {"ClockRate": 1_000_000, "MultiProcessorCount": 2}

    def use(self) -> None:
        pass

    def __enter__(self) -> Device:
        call("setDevice")  # which opens the context since CUDA 12
        return self

    def __exit__(self, *error: object) -> None:
        pass


def memcpy_async(to: int, source: int, nbytes: int, kind: int, stream: int) -> None:
    call("memcpyAsync")
    assert source & DEVICE
    if kind == runtime.memcpyDeviceToDevice:
        assert to & DEVICE
    else:  # asynchronously only to pinned memory, whose beginning is known
        assert kind == runtime.memcpyDeviceToHost
        assert any(0 <= to - start <= (256 << 20) for start in _pinned)
    to, source = to & ~DEVICE, source & ~DEVICE
    _streams[stream].enqueue(lambda: ctypes.memmove(to, source, nbytes))


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError {status}")
        self.status = status


class CUDADriverError(CUDARuntimeError):
    pass


class CompileException(Exception):
    pass


properties: dict[str, Any] = {
    "name": b"emulator",
    "major": 9,
    "minor": 0,
    "l2CacheSize": 1 << 20,
    "multiProcessorCount": 2,
}
"""Properties of the GPU; tests replace some before it is opened."""
compiler = SimpleNamespace(CompileException=CompileException)
driver = SimpleNamespace(CUDADriverError=CUDADriverError)
runtime = SimpleNamespace(
    memcpyAsync=memcpy_async,
    memcpyDeviceToHost=2,
    memcpyDeviceToDevice=3,
    CUDARuntimeError=CUDARuntimeError,
    memGetInfo=lambda: call("memGetInfo") or (memory.free(), memory.total),
    getDeviceCount=lambda: 1,
    driverGetVersion=lambda: 12090,
    runtimeGetVersion=lambda: 12090,
    getDeviceProperties=lambda number: {**properties, "totalGlobalMem": memory.total},
)
nvrtc = SimpleNamespace(getVersion=lambda: (12, 9))
