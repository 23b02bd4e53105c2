"""Calls or an iterator -> their results, computed in a thread while the caller works."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

END: Final = object()
"""Value that `Prefetcher.take` returns after the last step."""


class WorkerThread:
    """Thread that makes calls in the order of their submission; a context manager.

    Parameters
    ----------
    name : str
        Name of the thread.
    at_end : callable, optional
        Last call of the thread, made also after an error.
    """

    def __init__(self, name: str, at_end: Callable[[], object] | None = None) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], Any] | None]
        self._calls, self._at_end, self._closed = queue.SimpleQueue(), at_end, False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Ask for a call in the thread.

        Parameters
        ----------
        call : callable
            Function to call.
        *arguments : object
            Its arguments.

        Returns
        -------
        Future
            Result of the call.
        """
        future: Future[T] = Future()
        self._calls.put((future, call, arguments))
        return future

    def close(self) -> None:
        """Cancel the calls that have not started, and wait for a running one."""
        self._closed = True
        self._calls.put(None)
        self._thread.join()

    def __enter__(self) -> WorkerThread:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while (called := self._calls.get()) is not None:
                future, call, arguments = called
                if self._closed:
                    future.cancel()
                else:
                    _resolve(future, call, *arguments)
                del called, future, call, arguments  # else they stay alive until the next call
        finally:
            if self._at_end is not None:
                self._at_end()


class CallerThread:
    """Makes calls in the caller's thread; replaces `WorkerThread` if the device is the CPU."""

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Make a call in this thread.

        Parameters
        ----------
        call : callable
            Function to call.
        *arguments : object
            Its arguments.

        Returns
        -------
        Future
            Result of the call, finished.
        """
        future: Future[T] = Future()
        _resolve(future, call, *arguments)
        return future

    def __enter__(self) -> CallerThread:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Prefetcher(Generic[T]):
    """Computes the steps of an iterator in a thread, up to `depth` steps ahead; a context manager.

    At the end, `steps` is closed in the thread that ran it.

    Parameters
    ----------
    steps : iterator
        Steps to compute.
    depth : int
        Largest number of finished steps that wait; one more is being computed.
    """

    def __init__(self, steps: Iterator[T], depth: int = 2) -> None:
        self._steps = steps
        name = f"prefetch-{getattr(steps, '__name__', 'steps')}"
        self._thread = WorkerThread(name, getattr(steps, "close", None))
        self._futures = deque(self._next() for _ in range(depth + 1))

    @property
    def upcoming(self) -> Future[Any]:
        """Future of the step that `take` returns next."""
        return self._futures[0]

    def take(self) -> Any:
        """Wait for the next step and return it, or `END`. Raise an error of the iterator here."""
        step = self._futures.popleft().result()
        self._futures.append(self._next())
        return step

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.close()

    def _next(self) -> Future[Any]:
        return self._thread.submit(next, self._steps, END)


def prefetch(
    steps: Iterator[T], depth: int = 2, waited: Callable[[float], None] | None = None
) -> Iterator[T]:
    """Yield the steps of an iterator that a thread computes up to `depth` steps ahead.

    An error of `steps` is raised in the caller, after the steps before it. If the caller stops
    early, the thread is stopped and waited for, and closes `steps`.

    Parameters
    ----------
    steps : iterator
        Steps to compute.
    depth : int
        See `Prefetcher`.
    waited : callable, optional
        Called in the caller's thread with the seconds of waiting for each step.

    Yields
    ------
    T
        The steps, in order.
    """
    with Prefetcher(steps, depth) as thread:
        while True:
            began = time.monotonic()
            step = thread.take()
            if waited is not None:
                waited(time.monotonic() - began)
            if step is END:
                return
            yield step


def _resolve(future: Future[T], call: Callable[..., T], *arguments: Any) -> None:
    try:
        future.set_result(call(*arguments))
    except BaseException as error:  # noqa: BLE001  (raised again by Future.result)
        _let_go(error)
        future.set_exception(error)


def _let_go(error: BaseException) -> None:
    """Clear local variables in the traceback of an error, which may hold memory of a device.

    The future keeps the error, and the error keeps them alive.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
