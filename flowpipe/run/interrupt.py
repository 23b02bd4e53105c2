"""SIGINT and SIGTERM -> a clean stop: the first signal stops a run, the second kills it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """State of signal handling in a run; made by `signals_interrupt_once`.

    Parameters
    ----------
    notice : str
        Text for stderr at the first signal.
    """

    def __init__(self, notice: str = "") -> None:
        self.came = False
        self._notice = notice
        self._deferred = False

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Make the first signal only set `came` during the block, which checks it and ends."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_if_came(self) -> None:
        """Raise KeyboardInterrupt if a signal came in a deferred block."""
        if self.came:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        with suppress(OSError):
            # Bypasses rich and sys.stderr, which the signal may have interrupted.
            os.write(2, self._notice.encode())
        if not self._deferred:
            raise KeyboardInterrupt


@contextmanager
def signals_interrupt_once(notice: str = "") -> Iterator[Interruption]:
    """Make SIGTERM end the block as Ctrl-C does, so that batch systems stop a run cleanly.

    The first signal raises KeyboardInterrupt, or only sets `came` inside `Interruption.defer`. A
    second one kills the process at once. Signals do not come to other threads than the main one.

    Parameters
    ----------
    notice : str
        Text that is written to stderr on the first signal. A block without one inside this block
        writes it too.

    Yields
    ------
    Interruption
    """
    for number in _SIGNALS:  # a background job of a shell ignores SIGINT
        outer = getattr(signal.getsignal(number), "__self__", None)
        if not notice and isinstance(outer, Interruption):
            notice = outer._notice
    interruption = Interruption(notice)
    if threading.current_thread() is not threading.main_thread():  # signals do not come here
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if before[number] != signal.SIG_IGN:  # ignored in a background job of a shell
            signal.signal(number, interruption._on_signal)
    try:
        yield interruption
    except Exception:
        # The interrupt was raised in a callback, where Python drops it, and caused this error; or
        # the same signal has ended the scheduler.
        if interruption.came:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])
