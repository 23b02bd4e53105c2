"""Stand-in of torch.cuda: proves which GPU each thread uses, not that CUDA or NCCL works.

Tensors of a GPU stay in the CPU's memory and NCCL is gloo, so numbers are those of a CPU. As with
CUDA, the current device belongs to a thread and is the first GPU until it is set.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed
from torch.overrides import TorchFunctionMode

COLLECTIVES = ("all_reduce", "all_gather", "all_gather_object", "broadcast", "barrier")


class GpusStandIn(TorchFunctionMode):
    """So many GPUs, in use while the block runs.

    Attributes
    ----------
    seen : set of (str, int)
        What was done, and the number of the GPU that was current then, or that a tensor named.
    waits : list of str
        Functions that copied from the CPU to a GPU and for which the CPU would have waited.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.seen, self._thread = count, set[tuple[str, int]](), threading.local()
        self.waits: list[str] = []

    @property
    def current(self) -> int:
        """Return the current device of this thread."""
        return getattr(self._thread, "current", 0)

    def set_current(self, device: object) -> None:
        """Set the device as `torch.cuda.set_device` does."""
        number = device if isinstance(device, int) else torch.device(device).index
        assert 0 <= number < self.count
        self._thread.current = number

    def see(self, what: str) -> None:
        self.seen.add((what, self.current))

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.device:  # a name, with which nothing is done yet
            return function(*args, **kwargs)
        names_gpu = any(map(_is_gpu, (*args, *kwargs.values())))
        is_copy = function in (torch.tensor, torch.as_tensor, torch.Tensor.to, torch.Tensor.cuda)
        if names_gpu and is_copy and not kwargs.get("non_blocking"):
            self.waits.append(str(function))
        kwargs = {name: self._on_cpu(value) for name, value in kwargs.items()}
        return function(*map(self._on_cpu, args), **kwargs)

    def _on_cpu(self, value: Any) -> Any:
        """Return the CPU in place of a GPU, and record the GPU."""
        if _is_gpu(value):
            number = torch.device(value).index
            self.seen.add(("tensor", self.current if number is None else number))
            return torch.device("cpu")
        return value

    def install(self) -> None:
        """Take the places of CUDA's functions for the rest of this process."""
        torch.cuda.is_available = torch.accelerator.is_available = lambda: True
        torch.cuda.device_count = lambda: self.count
        torch.cuda.set_device = torch.accelerator.set_device_index = self.set_current
        torch.cuda.current_device = torch.accelerator.current_device_index = lambda: self.current
        torch.accelerator.current_accelerator = lambda *rest: torch.device("cuda")
        torch.cuda.get_rng_state = self._of_device(lambda: torch.get_rng_state())
        torch.cuda.set_rng_state = lambda state, device: self._of_device(
            lambda: torch.set_rng_state(state)
        )(device)
        torch.cuda.get_device_name = self._of_device(lambda: "a stand-in")
        torch.cuda.max_memory_allocated = self._of_device(lambda: 0)
        torch.Tensor.pin_memory = lambda tensor, *rest: self._pin(tensor)
        for name in COLLECTIVES:
            setattr(distributed, name, self._watch(name, getattr(distributed, name)))
        distributed.init_process_group = self._join(distributed.init_process_group)

    def _of_device(self, do: Callable[[], Any]) -> Callable[[object], Any]:
        def on(device: object) -> Any:
            self.seen.add(("asked", torch.device(device).index))
            return do()

        return on

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.see(f"pin memory in {'main' if self._is_main() else 'another'} thread")
        return tensor

    @staticmethod
    def _is_main() -> bool:
        return threading.current_thread() is threading.main_thread()

    def _watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.see(name)
            return function(*args, **kwargs)

        return call

    def _join(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def join(*, backend: str, device_id: torch.device, **kwargs: Any) -> None:
            assert backend == "nccl", backend
            self.see(f"join bound to {device_id}")
            function(backend="gloo", **kwargs)

        return join


def _is_gpu(value: object) -> bool:
    is_device = isinstance(value, torch.device) and value.type == "cuda"
    return is_device or (isinstance(value, str) and value.partition(":")[0] == "cuda")
