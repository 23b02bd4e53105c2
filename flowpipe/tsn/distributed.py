"""Several processes that train together: joining them, which one this is, sums over all."""

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

from flowpipe.tsn.launch import LAUNCHER_LIVES, RENDEZVOUS


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


def _end_with_launcher() -> None:
    """End this process when its launcher is killed: the next run would write to the same folder."""
    os.read(int(os.environ[LAUNCHER_LIVES]), 1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that `launch` or torchrun started, if one did, while the block runs.

    With CUDA each takes the GPU of its number on the machine. Processes of `launch` share the
    machine's cores unless OMP_NUM_THREADS is set, as torchrun sets it.

    What the block made of them, a model in parallel among it, must be free at its end: only then do
    the group's threads end with it, and one that still ran when Python ends would abort the
    process.
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
    if RENDEZVOUS in os.environ:
        threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()
        rank, world = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, torch.get_num_threads() // world))
        store = distributed.FileStore(os.environ[RENDEZVOUS], world)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world)
    else:
        distributed.init_process_group(backend)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        gc.collect()
        distributed.destroy_process_group()
