"""Number of processes + a command -> processes of this machine that train or test together.

Nothing here needs torch: the process that starts the others does not load it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from flowpipe.errors import BackendError
from flowpipe.scratch import scratch_folder

RENDEZVOUS = "FLOWPIPE_RENDEZVOUS"
"""Environment variable: file through which the processes that `launch` started find each other."""
LAUNCHER_LIVES = "FLOWPIPE_LAUNCHER_LIVES"
"""Environment variable: number of a pipe that ends when the process that called `launch` does."""
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_POLL_S = 0.1
_GRACE_S = 30.0
"""Time that processes have to end after a signal, s."""


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run Python with some arguments in several processes of this machine.

    They find each other through a file that only this user can open, and connect to each other on
    the loopback interface. The store of torchrun would listen on every interface, and it unpickles
    what anybody sends.

    Parameters
    ----------
    count : int
        Number of processes.
    arguments : sequence of str
        Arguments of Python.

    Returns
    -------
    int
        0, or the exit code of a process that failed; the others are then ended.

    Raises
    ------
    BackendError
        If a process was killed.
    KeyboardInterrupt
        If this process was sent SIGINT or SIGTERM. The others are sent it too; a second one kills
        them.
    """
    came: list[int] = []
    processes: list[subprocess.Popen[bytes]] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            for process in processes:
                process.kill()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    lives, life = os.pipe()
    with scratch_folder("flowpipe-train") as folder:
        shared = {
            "WORLD_SIZE": str(count),
            RENDEZVOUS: str(folder / "rendezvous"),
            LAUNCHER_LIVES: str(lives),
            "GLOO_SOCKET_IFNAME": _LOOPBACK,
            "NCCL_SOCKET_IFNAME": _LOOPBACK,
        }
        try:
            for number, handler in before.items():
                if handler != signal.SIG_IGN:
                    signal.signal(number, stop)
            for rank in range(count):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                processes.append(
                    subprocess.Popen(
                        [sys.executable, *arguments],
                        env={**os.environ, **shared, **own},
                        pass_fds=[lives],
                        start_new_session=True,  # a terminal's Ctrl-C reaches this one only
                    )
                )
            codes: dict[int, int | None] = dict.fromkeys(range(count))
            while not came and None in codes.values() and not any(codes.values()):
                time.sleep(_POLL_S)
                codes = {rank: process.poll() for rank, process in enumerate(processes)}
        finally:
            _end(processes, came[0] if came else signal.SIGTERM)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(lives)
            os.close(life)
    if came:
        raise KeyboardInterrupt
    failed = {rank: code for rank, code in codes.items() if code}
    # One that was killed takes others with it, which fail in words of their own.
    rank, code = min(failed.items(), key=lambda one: one[1], default=(0, 0))
    if code < 0:
        why = "; did it take too much memory?" if code == -signal.SIGKILL else ""
        raise BackendError(
            f"process {rank} of {count} was ended by {signal.Signals(-code).name}{why}"
        )
    return code


def _end(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    """Send a signal to processes that still run, and kill those that run on for long."""
    until = time.monotonic() + _GRACE_S
    for process in processes:
        process.send_signal(number)  # does nothing to one that has ended
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
