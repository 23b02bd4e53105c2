"""Iterator -> the same iterator, computed a few steps ahead in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(
    steps: Iterator[T], depth: int = 2, waited: Callable[[float], None] | None = None
) -> Iterator[T]:
    """Iterate over `steps` while a thread works up to `depth` steps ahead.

    `waited` is told, here, how many seconds each step was waited for.

    An exception in the thread is raised here, after the steps that came before it. When the caller
    stops early the thread is told, and waited for: `steps` is closed in the thread that ran it.
    """
    results: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(kind: str, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                results.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for step in steps:
                if not put("step", step):
                    break
            else:
                put("end", None)
        except BaseException as error:  # noqa: BLE001  (it is raised again in the caller)
            put("error", error)
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name=f"ahead-{getattr(steps, '__name__', 'steps')}")
    thread.daemon = True
    thread.start()
    try:
        while True:
            began = time.monotonic()
            kind, value = results.get()
            if waited is not None:
                waited(time.monotonic() - began)
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
