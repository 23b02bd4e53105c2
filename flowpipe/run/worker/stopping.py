"""SIGTERM to a worker -> finished videos are published before the worker ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()
_working = threading.Event()


def is_stop_requested() -> bool:
    """Return whether this process has been asked to publish finished videos and end."""
    return _asked.is_set()


def ask_to_stop() -> None:
    """Ask this process to publish its open shard and then end."""
    _asked.set()


def is_working() -> bool:
    """Return whether this process has an open shard."""
    return _working.is_set()


@contextmanager
def work_under_way() -> Iterator[None]:
    """Defer SIGTERM to the end of the block, where it ends the process."""
    _working.set()
    try:
        yield
    finally:
        _working.clear()
        if _asked.is_set():
            os._exit(128 + signal.SIGTERM)


def catch_sigterm() -> None:
    """Make SIGTERM wait for the open shard; does nothing outside the main thread.

    An existing handler, such as that of a Dask worker without a nanny, stays.
    """
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _on_terminate)


def _on_terminate(number: int, frame: FrameType | None) -> None:
    _asked.set()
    if not _working.is_set():
        os._exit(128 + number)
