"""Kernel launches of a thread -> its CUDA stream; a repeated sequence becomes one CUDA graph.

A launch costs the host several microseconds, and the GPU idles between two kernels. A thread
therefore collects launches until their results are needed. A sequence of kernels with the same
arguments, addresses included, is recorded when it comes a second time, and launched as one graph
from then on. Calls of one size have the same addresses if CuPy's pool returns a stream's own blocks
to it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

MOST_SEQUENCES = 64
"""Sequences that a thread remembers; the least recently launched is dropped first."""

_local = threading.local()


class Launch(NamedTuple):
    """One launch: a kernel with its arguments."""

    key: Hashable
    """Identity: kernel, grid, block, bytes of numbers, addresses of arrays."""
    kernel: Callable[[Any, Any, Any], None]
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Any, ...]

    def start(self) -> None:
        """Launch on the current stream, now or when this thread's launches are flushed."""
        launches: LaunchCollector | None = getattr(_local, "launches", None)
        if launches is None:
            self.start_now()
        else:
            launches.pending.append(self)

    def start_now(self) -> None:
        """Launch on the current stream now."""
        self.kernel(self.grid, self.block, self.arguments)


class LaunchCollector:
    """Collected launches of a thread, and the graphs of earlier sequences.

    Parameters
    ----------
    stream : cupy.cuda.Stream
        Stream of the thread; it is current while launches are collected.
    """

    def __init__(self, stream: Any) -> None:
        self.pending: list[Launch] = []
        self._stream, self._depth = stream, 0
        self._known: OrderedDict[Hashable, Any] = OrderedDict()

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Collect launches in the block; the outermost such context flushes them."""
        outer = getattr(_local, "launches", None)
        _local.launches = self
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self.flush()
        except BaseException:
            with suppress(Exception):  # only the first error is reported
                self.flush()
            raise
        finally:
            self._depth -= 1
            _local.launches = outer

    def flush(self) -> None:
        """Put the collected launches on the stream; call it before anything else is put there."""
        launches, self.pending = self.pending, []
        if not launches:
            return
        key, known = tuple(launch.key for launch in launches), self._known
        if key not in known:
            known[key] = None
            for launch in launches:
                launch.start_now()
        else:
            known[key] = known[key] or self._record(launches)
            known[key].launch(self._stream)
            known.move_to_end(key)
        while len(known) > MOST_SEQUENCES:
            known.popitem(last=False)

    def record_graph(self, work: Callable[[], None]) -> Any:
        """Record the kernels that a function starts; their files must be loaded.

        Parameters
        ----------
        work : callable
            Function that starts kernels.

        Returns
        -------
        cupy.cuda.Graph
            The graph.
        """
        self.flush()
        try:
            work()
        finally:
            launches, self.pending = self.pending, []
        return self._record(launches)

    def _record(self, launches: Sequence[Launch]) -> Any:
        self._stream.begin_capture()
        try:
            for launch in launches:
                launch.start_now()
        except BaseException:
            with suppress(Exception):  # of a capture that broke
                self._stream.end_capture()
            raise
        return self._stream.end_capture()
