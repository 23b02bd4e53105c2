"""Several processes that train together: starting them, which one this is, sums over all."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from flowpipe.errors import BackendError
from flowpipe.scratch import scratch_folder

_RENDEZVOUS = "FLOWPIPE_RENDEZVOUS"
"""Environment variable: file through which the processes that `launch` started find each other."""
_LAUNCHER_LIVES = "FLOWPIPE_LAUNCHER_LIVES"
"""Environment variable: number of a pipe that ends when the process that called `launch` does."""
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_POLL_S = 0.1
_GRACE_S = 30.0
"""Time that processes have to end after a signal, s."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Sums of values over all processes."""
        if self.world == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(together)
        sums: list[float] = together.tolist()
        return sums

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are the mean over all processes."""
        if self.world == 1:
            return model
        # Buffers are left alone: sharing them would need equal numbers of parts of a batch.
        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {name: False}
        return DistributedDataParallel(model, **options)


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run Python with some arguments in several processes of this machine.

    They find each other through a file that only this user can open, and connect to each other on
    the loopback interface. The store of torchrun would listen on every interface, and it unpickles
    what anybody sends.

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
        threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count))}
        shared = {
            "WORLD_SIZE": str(count),
            _RENDEZVOUS: str(folder / "rendezvous"),
            _LAUNCHER_LIVES: str(lives),
            "GLOO_SOCKET_IFNAME": _LOOPBACK,
            "NCCL_SOCKET_IFNAME": _LOOPBACK,
        }
        try:
            for number, handler in before.items():
                if handler != signal.SIG_IGN:
                    signal.signal(number, stop)
            for rank in range(count):
                environment = {**threads, **os.environ, **shared, "RANK": str(rank)}
                processes.append(
                    subprocess.Popen(
                        [sys.executable, *arguments],
                        env={**environment, "LOCAL_RANK": str(rank)},
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


def _end_with_launcher() -> None:
    """End this process when its launcher is killed: the next run would write to the same folder."""
    os.read(int(os.environ[_LAUNCHER_LIVES]), 1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that `launch` or torchrun started, if one did, while the block runs.

    With CUDA each takes the GPU of its number on the machine. What the block made of them, a model
    in parallel among it, must be free at its end: only then do the group's threads end with it, and
    one that still ran when Python ends would abort the process.
    """
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if "RANK" not in os.environ:
        yield Processes(device=device)
        return
    # Its functions keep the group that exists when they are defined, as a parameter's default: were
    # it first imported by DistributedDataParallel, no one could end the group's threads again.
    import_module("torch.distributed.nn")
    backend = "gloo" if device == "cpu" else "nccl"
    if _RENDEZVOUS in os.environ:
        threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()
        rank, world = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        store = distributed.FileStore(os.environ[_RENDEZVOUS], world)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world)
    else:
        distributed.init_process_group(backend)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        gc.collect()
        distributed.destroy_process_group()
