"""SIGINT and SIGTERM -> one orderly end: the first stops a run, the second kills it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """State of signal handling in a run; made by `signals_interrupt_once`."""

    def __init__(self) -> None:
        self.came = False
        self._deferred = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a signal set `came` only: the block looks at it and ends by itself."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_if_came(self) -> None:
        """Raise KeyboardInterrupt if a signal came in a deferred block."""
        if self.came:
            raise KeyboardInterrupt

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        with suppress(OSError):
            # Past rich and sys.stderr, which it may have come in the middle of.
            os.write(2, b"stopping; finished videos are kept. Press Ctrl-C again to kill\n")
        if not self._deferred:
            raise KeyboardInterrupt


@contextmanager
def signals_interrupt_once() -> Iterator[Interruption]:
    """Let SIGTERM end the block as Ctrl-C does, so that batch systems stop a run cleanly.

    The first signal raises KeyboardInterrupt, or sets `came` where the block defers it. A second
    one kills the process at once.
    """
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if before[number] != signal.SIG_IGN:  # as in a job in the background of a shell
            signal.signal(number, interruption._signalled)
    try:
        yield interruption
    except Exception:
        # Raised where Python drops it, in a callback, and what it broke failed later; or the
        # scheduler was signalled too and is gone.
        if interruption.came:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])
