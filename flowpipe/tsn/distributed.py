"""Processes of a distributed training or test: rank, device, process group and collectives."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from flowpipe.errors import BackendError
from flowpipe.tsn.launch import LAUNCHER_LIVES, RENDEZVOUS
from flowpipe.words import count_noun


@dataclass(frozen=True)
class Processes:
    """Rank and device of this process, and collectives over all processes."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """True for rank 0, the process that writes files and prints."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Sum values over all processes.

        Parameters
        ----------
        *values : float
            Values of this process.

        Returns
        -------
        list of float
            Sum of each value.
        """
        return self.total_rows([list(values)])[0]

    def total_rows(self, rows: list[list[float]]) -> list[list[float]]:
        """Sum the values of a table over all processes.

        Parameters
        ----------
        rows : list of list of float
            Table of this process; all have one shape.

        Returns
        -------
        list of list of float
            Sum of each value.
        """
        if self.world == 1:
            return rows
        together = torch.tensor(rows, dtype=torch.float64, device=self.device)
        distributed.all_reduce(together)
        sums: list[list[float]] = together.tolist()
        return sums

    def gather(self, own: Tensor) -> list[Tensor]:
        """Collect a tensor of every process.

        Parameters
        ----------
        own : Tensor (...)
            Tensor of this process; all have one shape and dtype.

        Returns
        -------
        list of Tensor (...)
            Tensors by rank, on the CPU.
        """
        if self.world == 1:
            return [own.cpu()]
        # Not all_gather_object: it pickles, and puts its tensors on the current device.
        on_device = own.to(self.device)
        found = [torch.empty_like(on_device) for _ in range(self.world)]
        distributed.all_gather(found, on_device)
        return [one.cpu() for one in found]

    def gather_rows(self, own: Tensor) -> Tensor:
        """Collect the rows of a table of every process.

        Parameters
        ----------
        own : Tensor (rows, columns)
            Rows of this process; their number may differ between processes.

        Returns
        -------
        Tensor (rows, columns)
            Rows of all processes by rank, on the CPU.
        """
        counts = [int(count) for count in self.gather(torch.tensor([len(own)]))]
        padded = own.new_zeros(max(counts), own.shape[1])
        padded[: len(own)] = own
        tables = zip(self.gather(padded), counts, strict=True)
        return torch.cat([table[:count] for table, count in tables])

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of the first process to all processes.

        Parameters
        ----------
        tensors : iterable of Tensor (...)
            Tensors of this process; all processes list them alike.
        """
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Make the gradients of a model those of all processes.

        Parameters
        ----------
        model : Module
            Network of this process.

        Returns
        -------
        Module
            Network whose gradients are averaged over all processes.
        """
        if self.world == 1:
            return model
        # Buffers are left alone: sharing them would need equal numbers of parts of a batch.
        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {name: False}
        return DistributedDataParallel(model, **options)


def _end_with_launcher() -> None:
    """End this process when its launcher is killed: the next run would write to the same folder."""
    os.read(int(os.environ[LAUNCHER_LIVES]), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def select_device(device: str) -> str:
    """Make the GPU of this process the current one.

    With ``cuda`` it is the GPU of the process' number on this machine, `LOCAL_RANK`. NCCL, random
    states and the threads that pin memory use the current device: without this they would open a
    context on the first GPU in every process.

    Parameters
    ----------
    device : str
        ``cuda`` or ``cpu``.

    Returns
    -------
    str
        Device of this process, such as ``cuda:1``.

    Raises
    ------
    BackendError
        If this process has no GPU.
    """
    if device != "cuda":
        return device
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise BackendError(
            f"process {number} of this machine (LOCAL_RANK) has no GPU of its own: torch sees "
            f"{count_noun(count, 'GPU')}; start as many processes on a machine as it has GPUs, and "
            "show each process all of them"
        )
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def processes_from_environment(device: str) -> Processes:
    """Return this process among those that `launch` or torchrun started, if one did.

    The processes do not communicate: a test assigns videos by rank. With CUDA each process uses the
    GPU of its local rank. Processes of `launch` share the machine's cores unless OMP_NUM_THREADS is
    set, as torchrun does.

    Parameters
    ----------
    device : str
        ``cuda`` or ``cpu``.

    Returns
    -------
    Processes
        Rank, number of processes and device.

    Raises
    ------
    BackendError
        If this process has no GPU of its own.
    """
    own = select_device(device)
    if "RANK" not in os.environ:
        return Processes(device=own)
    rank, world = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    if RENDEZVOUS in os.environ:
        threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, torch.get_num_threads() // world))
    return Processes(rank, world, own)


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the processes that `launch` or torchrun started, if one did, while the block runs.

    See `processes_from_environment` for their devices and threads.

    The block must release everything that uses the group, such as a parallel model, before it ends.
    Only then do the group's threads end, and a thread that runs when Python exits aborts the
    process.

    Parameters
    ----------
    device : str
        ``cuda`` or ``cpu``.

    Yields
    ------
    Processes
        Rank, number of processes and device.

    Raises
    ------
    BackendError
        If this process has no GPU of its own.
    """
    here = processes_from_environment(device)
    if "RANK" not in os.environ:
        yield here
        return
    # Its functions keep the group that exists when they are defined, as a parameter's default: were
    # it first imported by DistributedDataParallel, no one could end the group's threads again.
    import_module("torch.distributed.nn")
    # NCCL guesses the GPU of a rank that is not bound to one; a wrong guess can hang a barrier.
    options: dict[str, Any] = {"backend": "gloo"}
    if here.device != "cpu":
        options = {"backend": "nccl", "device_id": torch.device(here.device)}
    if RENDEZVOUS in os.environ:
        store = distributed.FileStore(os.environ[RENDEZVOUS], here.world)
        options |= {"store": store, "rank": here.rank, "world_size": here.world}
    distributed.init_process_group(**options)
    try:
        yield here
    finally:
        gc.collect()
        distributed.destroy_process_group()
