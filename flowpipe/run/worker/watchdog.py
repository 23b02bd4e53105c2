"""Beats -> a process that is killed, with its stacks written to a trace, when the beats stop."""

from __future__ import annotations

import faulthandler
import os
import traceback
from types import TracebackType
from typing import NoReturn, TextIO

from flowpipe.errors import FlowpipeError


class Watchdog:
    """Kills the process when `beat` is not called for `limit_s`, after writing stacks to `trace`.

    The timer is a C thread of the interpreter. It fires even while native code, such as a decoder
    that hangs, holds the GIL.

    Parameters
    ----------
    limit_s : float
        Longest time between two beats, seconds.
    trace : file
        Open text file that receives the stack of each thread.
    """

    def __init__(self, limit_s: float, trace: TextIO) -> None:
        self._limit_s, self._trace = limit_s, trace

    def __enter__(self) -> Watchdog:
        faulthandler.enable(self._trace)  # a crash in native code leaves its stack there too
        self.beat()
        return self

    def beat(self, more_s: float = 0.0) -> None:
        """Restart the timer.

        Parameters
        ----------
        more_s : float
            Time beyond the limit, seconds.
        """
        faulthandler.dump_traceback_later(self._limit_s + more_s, exit=True, file=self._trace)

    def give_up(self, error: FlowpipeError) -> NoReturn:
        """End the process as a crash would; the trace begins with the error's reason code.

        Parameters
        ----------
        error : FlowpipeError
            Why the process ends.
        """
        self._trace.write(f"{error.reason}: {error}\n")
        traceback.print_exception(error, file=self._trace)
        self._trace.flush()
        os._exit(1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
