"""The first signal ends a run with a message, even if a shell makes it ignore Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal
from flowpipe.run.interrupt import signals_interrupt_once
signal.signal(signal.SIGINT, signal.{})
try:
    with signals_interrupt_once("stopping\\n"), signals_interrupt_once():
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("handler", ["SIG_IGN", "default_int_handler"])
def test_a_block_inside_another_writes_the_notice_of_the_outer_one(handler: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(handler)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "stopping\n")


def test_the_block_restores_the_former_handlers() -> None:
    from flowpipe.run.interrupt import signals_interrupt_once

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with signals_interrupt_once("notice"):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
