"""Frames in colour -> flow by torchvision's RAFT (Teed and Deng 2020), a trained network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DeviceMemoryError
from flowpipe.flow.raft_weights import WEIGHTS, load_network, sha256_of
from flowpipe.flow.tvl1 import check_counts
from flowpipe.ops import Ops

if TYPE_CHECKING:
    import torch

SMALLEST_PX = 128
"""Smallest side of an image that the network takes; its coarsest correlations have two rows."""
STEP_PX = 8
"""Sides of an image that the network takes are multiples of this."""
GPU_PAIRS = 8
"""Pairs per call on a GPU. A call on the CPU has one, which is as fast."""


@dataclass(frozen=True, kw_only=True)
class RAFTParams:
    """Settings of torchvision's RAFT."""

    name: ClassVar[str] = "raft"
    model: Literal["large", "small"] = "large"
    weights: str = field(default="", metadata={"local": True})
    """Path of the weights: a state dict of torchvision's model. It is made absolute. Stores do not
    record it."""
    weights_sha256: str = ""
    """SHA-256 of the weights; that of the file if empty. Another file is refused."""
    iterations: int = 12
    """Updates of the flow. torchvision reports its accuracy with 32 or 12, by data set."""

    def __post_init__(self) -> None:
        check_counts(self, 100, "iterations")
        if not (self.weights or self.weights_sha256):
            raise ValueError(
                f"weights must be the path of a file of torchvision's raft_{self.model}, such as "
                f"{WEIGHTS[self.model]}, got none; download it and give --set flow.weights=FILE"
            )
        if self.weights:
            object.__setattr__(self, "weights", str(Path(self.weights).absolute()))
        if not self.weights_sha256:
            object.__setattr__(self, "weights_sha256", sha256_of(self.weights))


class RAFTSolver:
    """RAFT solver on the CPU or a GPU.

    Images are padded to sides that the network takes by repeating their borders, as the original
    code does, and the flow is cropped. Each pair is computed for itself on the CPU, by one thread,
    so that the flow depends on its two frames only.

    Parameters
    ----------
    params : RAFTParams
        Settings.
    ops : Ops
        Backend that holds the frames. The network runs on its device.

    Raises
    ------
    BackendError
        If the weights are missing or of another model.
    """

    def __init__(self, params: RAFTParams, ops: Ops) -> None:
        self.params, self.ops = params, ops
        self.device = "cpu" if ops.on_cpu else "cuda"
        self._model = load_network(params.model, params.weights, params.weights_sha256, self.device)

    def prepare(self, frames: Any) -> NDArray[np.uint8]:
        """Fetch the frames to the host; pairs share nothing else.

        Parameters
        ----------
        frames : uint8 (N, H, W, 3) or (N, H, W)
            Frames in RGB; gray ones count as RGB of three equal planes.

        Returns
        -------
        uint8 (N, H, W, 3)
            The frames on the host.
        """
        host = self.ops.to_host(frames)
        if host.dtype != np.uint8 or min(host.shape[1:3]) < 1:
            raise ValueError(f"wanted frames of uint8 (N, H, W, 3), got {host.dtype} {host.shape}")
        return host if host.ndim == 4 else np.repeat(host[..., None], 3, axis=3)

    def solve(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the flow of each pair.

        Parameters
        ----------
        first, second : uint8 (N, H, W, 3)
            Frames of `prepare`.

        Returns
        -------
        float32 (N, 2, H, W)
            Flow from each frame of `first` to that of `second` on the host: pixels, u right, v
            down.

        Raises
        ------
        DeviceMemoryError
            If the GPU lacks memory for a single pair.
        """
        if first.shape != second.shape:
            raise ValueError(f"wanted frames of one shape, got {first.shape} and {second.shape}")
        n, height, width = first.shape[:3]
        flow = np.empty((n, 2, height, width), np.float32)
        step, k = 1 if self.device == "cpu" else GPU_PAIRS, 0
        while k < n:
            pairs = slice(k, k + step)
            try:
                flow[pairs] = self._solve(first[pairs], second[pairs])
            except DeviceMemoryError:
                if step == 1:
                    raise
                step //= 2
            else:
                k += step
        return flow

    def _solve(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        height, width = first.shape[1:3]
        top, bottom = _padding(height)
        left, right = _padding(width)
        with _exact_arithmetic(), torch.inference_mode(), _translate_memory_errors():
            images = [
                torch.nn.functional.pad(
                    self._normalise(frames), (left, right, top, bottom), mode="replicate"
                ).contiguous()  # other strides have other rounding
                for frames in (first, second)
            ]
            flow = self._model(*images, num_flow_updates=self.params.iterations)[-1]
            found = flow[..., top : top + height, left : left + width].cpu().numpy()
        return np.asarray(found, np.float32)

    def _normalise(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """Return float32 (N, 3, H, W) in [-1, 1] on the device."""
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        return planes.to(self.device).to(torch.float32).div(255).sub(0.5).div(0.5)


def why_no_raft() -> str:
    """Return what RAFT lacks here and what to do, or ""."""
    lacks = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
    if not lacks:
        return ""
    return f"flow raft needs {' and '.join(lacks)}: pip install torch torchvision"


def raft_ran_on(ops: Ops) -> str:
    """Return what computes, as recorded in the store.

    Parameters
    ----------
    ops : Ops
        Backend that holds the frames.

    Returns
    -------
    str
        Version of torchvision, and the device: ``cpu``, or the name of the GPU's backend.
    """
    version = importlib.metadata.version("torchvision")
    return f"torchvision-{version}-{'cpu' if ops.on_cpu else ops.name}"


def _padding(side: int) -> tuple[int, int]:
    """Return the pixels added before and after a side."""
    padded = max(SMALLEST_PX, -(-side // STEP_PX) * STEP_PX)
    return (padded - side) // 2, (padded - side + 1) // 2


@contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Let torch compute in float32 with one thread, as a worker has one core; restore settings."""
    import torch

    before = torch.get_num_threads()
    matmul: Any = torch.backends.cuda.matmul
    tf32 = matmul.allow_tf32
    torch.set_num_threads(1)
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)
        matmul.allow_tf32 = tf32


@contextmanager
def _translate_memory_errors() -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError.of(error) from error
