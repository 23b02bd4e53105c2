"""SIGTERM to a worker -> it publishes what it has finished before it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()
_working = threading.Event()


def stop_asked() -> bool:
    """Return whether this process shall publish what it has finished and end."""
    return _asked.is_set()


def ask_to_stop() -> None:
    """Let the shard under way be published and then the process end."""
    _asked.set()


def is_working() -> bool:
    """Return whether a shard is under way in this process."""
    return _working.is_set()


@contextmanager
def work_under_way() -> Iterator[None]:
    """Mark the time in which SIGTERM must wait; if it came, the process ends with the block."""
    _working.set()
    try:
        yield
    finally:
        _working.clear()
        if _asked.is_set():
            os._exit(128 + signal.SIGTERM)


def catch_sigterm() -> None:
    """Make SIGTERM wait for the shard under way; to be called in the main thread.

    A handler that is there already, as that of a Dask worker without a nanny, stays.
    """
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> None:
    _asked.set()
    if not _working.is_set():
        os._exit(128 + number)
