"""Waiting threads -> seconds that each of them, and that any of them, waited for a device."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class WaitTimes:
    """Time that threads waited for a device, seconds."""

    def __init__(self) -> None:
        self._local, self._lock = threading.local(), threading.Lock()
        self._waiting, self._since, self._any_s = 0, 0.0, 0.0

    @property
    def this_thread_s(self) -> float:
        """Time that this thread has waited, seconds."""
        return float(getattr(self._local, "seconds", 0.0))

    @property
    def any_thread_s(self) -> float:
        """Time during which at least one thread waited, seconds."""
        return self._any_s

    @contextmanager
    def measure_wait(self) -> Iterator[None]:
        """Measure the block as this thread's wait for the device."""
        began = time.monotonic()
        with self._lock:
            self._since = self._since if self._waiting else began
            self._waiting += 1
        try:
            yield
        finally:
            ended = time.monotonic()
            with self._lock:
                self._waiting -= 1
                self._any_s += 0.0 if self._waiting else ended - self._since
            self._local.seconds = self.this_thread_s + ended - began
