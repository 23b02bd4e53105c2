"""Frames in colour -> flow by torchvision's RAFT (Teed and Deng 2020), a trained network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DeviceMemoryError
from flowpipe.flow.raft_weights import WEIGHTS, load_network, sha256_of
from flowpipe.flow.tvl1 import check_counts
from flowpipe.ops import Ops

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

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
    """Path of the weights: a state dict of torchvision's model or of the original code. It is made
    absolute. Stores do not record it."""
    weights_sha256: str = ""
    """SHA-256 of the weights; that of the file if empty. Another file is refused."""
    iterations: int = 12
    """Updates of the flow. torchvision reports its accuracy with 32 or 12, by data set."""

    def __post_init__(self) -> None:
        check_counts(self, 100, "iterations")
        if not (self.weights or self.weights_sha256):
            raise ValueError(
                f"weights must be the path of a file of torchvision's raft_{self.model}, such as "
                f"{WEIGHTS[self.model]}, got none; download it and give "
                "--set flow.weights=FILE (of `flowpipe flow`: --set weights=FILE)"
            )
        if self.weights:
            object.__setattr__(self, "weights", str(Path(self.weights).absolute()))
        if not self.weights_sha256:
            object.__setattr__(self, "weights_sha256", sha256_of(self.weights))


@dataclass(eq=False)
class RAFTFrame:
    """One frame and its encodings, which all pairs of the frame share."""

    pixels: NDArray[np.uint8]
    """RGB on the host, (H, W, 3)."""
    features: Any = None
    """Output of the feature encoder on the device, (1, C, h, w); None before the first pair."""
    context: Any = None
    """Output of the context encoder on the device, (1, C, h, w); None until a pair begins here."""


@dataclass(frozen=True)
class RAFTFrames:
    """Frames of one size; a slice shares their encodings."""

    frames: list[RAFTFrame]
    size: tuple[int, int]
    """(height, width), pixels."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frames: slice) -> RAFTFrames:
        return RAFTFrames(self.frames[frames], self.size)


class RAFTSolver:
    """RAFT solver on the CPU or a GPU.

    Images are padded to sides that the network takes by repeating their borders, as the original
    code does, and the flow is cropped. Each frame is encoded once. Each pair is computed for
    itself on the CPU, by one thread, so that the flow depends on its two frames only.

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
        self._network = load_network(
            params.model, params.weights, params.weights_sha256, self.device
        )

    def prepare(self, frames: Any) -> RAFTFrames:
        """Fetch the frames to the host; `solve` encodes each one when its first pair needs it.

        Parameters
        ----------
        frames : uint8 (N, H, W, 3) or (N, H, W)
            Frames in RGB; gray ones count as RGB of three equal planes.

        Returns
        -------
        RAFTFrames
            The frames, not yet encoded.
        """
        host = self.ops.to_host(frames)
        if host.dtype != np.uint8 or min(host.shape[1:3]) < 1:
            raise ValueError(f"wanted frames of uint8 (N, H, W, 3), got {host.dtype} {host.shape}")
        colour = host if host.ndim == 4 else np.repeat(host[..., None], 3, axis=3)
        return RAFTFrames([RAFTFrame(pixels) for pixels in colour], host.shape[1:3])

    def solve(self, first: RAFTFrames, second: RAFTFrames) -> NDArray[np.float32]:
        """Compute the flow of each pair.

        Parameters
        ----------
        first, second : RAFTFrames
            N frames of `prepare` each, of one size.

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
        if (len(first), first.size) != (len(second), second.size):
            raise ValueError(
                f"wanted as many frames of the same size, got {len(first)} of {first.size} and "
                f"{len(second)} of {second.size}"
            )
        pairs = list(zip(first.frames, second.frames, strict=True))
        new = [f for f in dict.fromkeys(chain.from_iterable(pairs)) if f.features is None]
        begun = [frame for frame in first.frames if frame.context is None]
        gpu = self.device != "cpu"
        _in_batches(self._add_features, new, GPU_PAIRS if gpu else 2)
        _in_batches(self._add_context, begun, GPU_PAIRS if gpu else 1)
        flows = _in_batches(self._solve, pairs, GPU_PAIRS if gpu else 1)
        return np.concatenate([np.empty((0, 2, *first.size), np.float32), *flows])

    def _add_features(self, frames: Sequence[RAFTFrame]) -> None:
        with _inference():
            # The model encodes two frames at once. A single one has another rounding on the CPU.
            alone = self.device == "cpu" and len(frames) == 1
            outputs = self._network.feature_encoder(self._images([*frames, *frames[:alone]]))
            for frame, features in zip(frames, outputs.split(1), strict=False):
                frame.features = features

    def _add_context(self, frames: Sequence[RAFTFrame]) -> None:
        with _inference():
            outputs = self._network.context_encoder(self._images(frames))
            for frame, context in zip(frames, outputs.split(1), strict=True):
                frame.context = context

    def _solve(self, pairs: Sequence[tuple[RAFTFrame, RAFTFrame]]) -> NDArray[np.float32]:
        """Run torchvision's model, whose encoders return what is known of the frames."""
        import torch
        from torchvision.models.optical_flow import RAFT

        (top, bottom, height), (left, right, width) = map(_padding, pairs[0][0].pixels.shape[:2])
        first, second = zip(*pairs, strict=True)
        with _inference():
            features = torch.cat([frame.features for frame in (*first, *second)])
            context = torch.cat([frame.context for frame in first])
            known = self._network
            model = RAFT(
                feature_encoder=lambda images: features,
                context_encoder=lambda image: context,
                corr_block=known.corr_block,
                update_block=known.update_block,
                mask_predictor=known.mask_predictor
                and _LastOnly(known.mask_predictor, self.params.iterations),
            )
            shape = torch.empty(len(pairs), 3, height, width, device=self.device)
            flow = model(shape, shape, num_flow_updates=self.params.iterations)[-1]
            found = flow[..., top : height - bottom, left : width - right].cpu().numpy()
        return np.asarray(found, np.float32)

    def _images(self, frames: Sequence[RAFTFrame]) -> torch.Tensor:
        """Return float32 (N, 3, H, W) in [-1, 1] on the device, padded."""
        import torch

        planes = np.stack([frame.pixels.transpose(2, 0, 1) for frame in frames])
        (top, bottom, _), (left, right, _) = map(_padding, planes.shape[2:])
        images = torch.from_numpy(planes).to(self.device).to(torch.float32)
        images = images.div(255).sub(0.5).div(0.5)
        images = torch.nn.functional.pad(images, (left, right, top, bottom), mode="replicate")
        return images.contiguous()  # other strides have other rounding


class _LastOnly:
    """Predictor of the upsampling mask that is called for the last update alone.

    The model upsamples the flow of every update and returns them all; only the last is used.
    Without a mask it interpolates, which costs little.
    """

    def __init__(self, predictor: Any, iterations: int) -> None:
        self._predictor, self._left = predictor, iterations

    def __call__(self, hidden_state: torch.Tensor) -> torch.Tensor | None:
        self._left -= 1
        return None if self._left else self._predictor(hidden_state)


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


def _padding(side: int) -> tuple[int, int, int]:
    """Return the pixels added before and after a side, and its length with them."""
    padded = max(SMALLEST_PX, -(-side // STEP_PX) * STEP_PX)
    return (padded - side) // 2, (padded - side + 1) // 2, padded


def _in_batches(compute: Callable[[Sequence[T]], R], values: Sequence[T], most: int) -> list[R]:
    """Return the results of batches; they are halved while the GPU lacks memory for one."""
    results: list[R] = []
    begin = 0
    while begin < len(values):
        try:
            results.append(compute(values[begin : begin + most]))
        except DeviceMemoryError:
            if most == 1:
                raise
            most //= 2
        else:
            begin += most
    return results


@contextmanager
def _inference() -> Iterator[None]:
    """Let torch compute in float32 with one thread, as a worker has one core; restore settings.

    Raises
    ------
    DeviceMemoryError
        If torch runs out of the GPU's memory.
    """
    import torch

    before = torch.get_num_threads()
    matmul: Any = torch.backends.cuda.matmul
    tf32 = matmul.allow_tf32
    torch.set_num_threads(1)
    matmul.allow_tf32 = False
    exact = torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False)
    try:
        with exact, torch.inference_mode():
            yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError.of(error) from error
    finally:
        torch.set_num_threads(before)
        matmul.allow_tf32 = tf32
