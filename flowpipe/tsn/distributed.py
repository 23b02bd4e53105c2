"""Several processes that train together: starting them, which one this is, sums over all."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from flowpipe.errors import BackendError


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
    """Run Python with some arguments in several processes of this machine, as torchrun does.

    Returns
    -------
    int
        0, or the exit code of one that failed; the others are then ended.

    Raises
    ------
    BackendError
        If one was killed.
    KeyboardInterrupt
        If this one was told to end.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # What went wrong the processes say themselves, in fewer words.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // count)))
    options = torchrun.parse_args(["--standalone", f"--nproc-per-node={count}", *arguments])
    try:
        torchrun.run(options)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        for code in codes.values():
            if code > 0:
                return code
        # one that is ended because of another is sent SIGTERM
        rank, code = min(codes.items(), key=lambda item: item[1] == -signal.SIGTERM)
        why = "; did it take too much memory?" if code == -signal.SIGKILL else ""
        raise BackendError(
            f"process {rank} of {count} was ended by {signal.Signals(-code).name}{why}"
        ) from None
    return 0


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did, for as long as the block runs.

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
    distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        gc.collect()
        distributed.destroy_process_group()
