"""Pairs at one scale on a GPU -> their flow, by launches that do not wait for the host.

A slot runs one step of its pair: a warp if one is due, then a few iterations. When the pair is
finished, the device assigns the slot to the next waiting pair (kernels/cuda/progress.cuh). The host
launches steps in CUDA graphs, one graph ahead of what it knows to be needed, so the device never
waits for it. A scale of a single tile is one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.cuda.errors import translate_errors
from flowpipe.ops.cuda.kernels import Kernels
from flowpipe.ops.cuda.settings import ROW_FLOATS, Settings, stride, tiles
from flowpipe.ops.cuda.streams import CudaStream
from flowpipe.ops.tables import (
    BORDER_PX,
    CHUNK,
    COEFFICIENTS,
    HALO_PX,
    PROGRESS,
    QUEUE,
    SAMPLINGS,
    TILE_ROWS,
    UNKNOWNS,
)
from flowpipe.ops.tvl1_protocol import TVL1Model

TILE_BLOCK = (32, 16, 1)


class ArenaLayout:
    """Offsets of the arrays of `capacity` pairs of one size in an arena, floats.

    Parameters
    ----------
    capacity, height, width : int
        Number of pairs, and their size, pixels.
    """

    def __init__(self, capacity: int, height: int, width: int) -> None:
        self.stride = stride(width)
        plane = height * self.stride
        packed = (height + 2 * BORDER_PX) * (width + 2 * BORDER_PX) * 4
        across, down = tiles(height, width)
        each = {
            "first": plane,
            "packed": packed,
            "model": len(COEFFICIENTS) * plane,
            "state": 2 * len(UNKNOWNS) * plane,
            "filtered": 2 * plane,
            "partial": across * down * HALO_PX,
        }
        self.places: dict[str, slice] = {}
        self.floats = 0
        for name, floats in each.items():
            self.places[name] = slice(self.floats, self.floats + capacity * floats)
            self.floats += -(-capacity * floats // ROW_FLOATS) * ROW_FLOATS


class Arena:
    """Device memory for the states of some pairs, reused for every scale, and its CUDA graphs.

    Parameters
    ----------
    cupy : module
        CuPy.
    capacity, height, width : int
        Largest number of pairs, and their largest size, pixels.
    """

    def __init__(self, cupy: Any, capacity: int, height: int, width: int) -> None:
        self.cupy = cupy
        self.capacity, self.height, self.width = capacity, height, width
        self.floats = cupy.empty(ArenaLayout(capacity, height, width).floats, np.float32)
        self.progress = cupy.empty((capacity, len(PROGRESS)), np.int32)
        self.queue = cupy.empty(len(QUEUE), np.int32)
        self.slots = cupy.empty(capacity, np.int32)
        self.graphs: dict[Any, Any] = {}

    def fits(self, pairs: int, height: int, width: int) -> bool:
        """Return whether the arena has exactly this size and at least so many pairs.

        Parameters
        ----------
        pairs : int
            Number of pairs.
        height, width : int
            Their size, pixels.

        Returns
        -------
        bool
            True if they fit.
        """
        return pairs <= self.capacity and (height, width) == (self.height, self.width)


class Workspace:
    """Device memory for TV-L1, and the CUDA stream that used it last."""

    arena: Arena | None = None
    stream: Any = None

    def forget(self) -> None:
        """Release the memory; states in use keep a reference to it."""
        if self.stream is not None:
            self.stream.synchronize()
        self.arena = None


class CudaState:
    """Fields of N pairs at one scale, in an arena.

    Parameters
    ----------
    arena : Arena
        Memory of the state.
    model : TVL1Model
        Constants of the scale.
    first : float32 (N, H, W)
        First images, on the device.
    """

    def __init__(self, arena: Arena, model: TVL1Model, first: Any) -> None:
        self.first, self.arena, self.model = first, arena, model
        self.pairs, self.height, self.width = first.shape
        layout = ArenaLayout(arena.capacity, self.height, self.width)
        self.stride = layout.stride
        self.arrays = {name: arena.floats[place] for name, place in layout.places.items()}

    def field(self, name: str) -> NDArray[np.float32]:
        """Copy a field to the host; the caller has waited for the state.

        Parameters
        ----------
        name : str
            Name of the field, see `TVL1State.field`.

        Returns
        -------
        float32 (N, H, W)
            The field of each pair.
        """
        with translate_errors(self.arena.cupy):
            if name in COEFFICIENTS:
                return self._field("model", 1, COEFFICIENTS, name, np.zeros(self.pairs, int))
            side = self.arena.progress.get()[: self.pairs, PROGRESS.index("side")]
            return self._field("state", 2, UNKNOWNS, name, side)

    def _field(
        self, array: str, sides: int, names: Sequence[str], name: str, side: NDArray[np.int_]
    ) -> NDArray[np.float32]:
        pair_of_fields, which = divmod(names.index(name), 2)
        shape = (
            self.arena.capacity, sides, self.height, self.stride // CHUNK, len(names) // 2,
            CHUNK // 2, 2, 2,
        )  # fmt: skip
        values = self.arrays[array].get().reshape(shape)
        chosen = values[np.arange(self.pairs), side][:, :, :, pair_of_fields, :, which]
        rows: NDArray[np.float32] = chosen.reshape(self.pairs, self.height, self.stride)
        return rows[:, :, : self.width].copy()


class Iterations:
    """Iterations of each pair of a state, a lazy array int32 (N,) for NumPy.

    It is copied to the host on conversion, which must precede the arena's next state.

    Parameters
    ----------
    to_host : callable
        Copies a device array to the host.
    state : CudaState
        State of the pairs.
    """

    def __init__(self, to_host: Callable[[Any], NDArray[Any]], state: CudaState) -> None:
        self._to_host, self._state = to_host, state

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        progress = self._to_host(self._state.arena.progress)
        return np.array(progress[: self._state.pairs, PROGRESS.index("total")], dtype)


class LevelSchedule:
    """Schedule of the warps and iterations of one level.

    Parameters
    ----------
    cupy : module
        CuPy.
    kernels : Kernels
        Kernels of this process.
    cache_bytes : int
        Size of the L2 cache; it limits the pairs of large images that run concurrently.
    multiprocessors : int
        Number of multiprocessors; each processes one tile at a time.
    settings : Settings, optional
        Settings; they may be replaced between calls.
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        cache_bytes: int,
        multiprocessors: int,
        settings: Settings | None = None,
    ) -> None:
        self.cupy, self.kernels = cupy, kernels
        self.settings = settings or Settings()
        self.cache_bytes, self.multiprocessors = cache_bytes, multiprocessors

    @property
    def settings(self) -> Settings:
        """Settings; they may be replaced between calls."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:  # numpydoc ignore=GL08
        self._settings = settings
        self.kernels.definitions = settings.definitions

    def pairs_together(self, height: int, width: int) -> int:
        """Return the number of pairs of a size that run concurrently.

        Parameters
        ----------
        height, width : int
            Size, pixels.

        Returns
        -------
        int
            Number of pairs.
        """
        return self.settings.pairs_together(height, width, self.cache_bytes, self.multiprocessors)

    def start(self, state: CudaState, second: Any, flow: Any | None) -> None:
        """Initialise a state, with dual variables of zero.

        Parameters
        ----------
        state : CudaState
            State to initialise.
        second : float32 (N, H, W)
            Second images, on the device.
        flow : float32 (N, 2, H, W) or None
            Flow to begin with, pixels; None for zero.
        """
        s, arrays = state, state.arrays
        self.kernels.over_images(
            "tvl1_start", s.arena.capacity, s.height, s.stride, s.first, flow, arrays["first"],
            arrays["state"], s.arena.progress, s.pairs, s.height, s.width, s.stride,
        )  # fmt: skip
        tall, wide = s.height + 2 * BORDER_PX, s.width + 2 * BORDER_PX
        self.kernels.over_images(
            "centered_gradient", s.pairs, tall, wide, second, arrays["packed"], s.height, s.width,
            s.model.sampling != "catmull_rom",
        )  # fmt: skip

    def run_warps(self, state: CudaState, warps: int, iterations: int, stream: CudaStream) -> None:
        """Run the warps of every pair.

        Parameters
        ----------
        state : CudaState
            State of the pairs.
        warps : int
            Number of warps.
        iterations : int
            Most iterations of a warp.
        stream : CudaStream
            Stream to run on.
        """
        s, m, arena = state, state.model, state.arena
        together = min(self.pairs_together(s.height, s.width), arena.capacity)
        self.kernels.over_values(
            "tvl1_begin", 1, max(s.pairs, together), arena.progress, arena.queue, arena.slots,
            s.pairs, together, warps, iterations, m.block, m.spaced, m.enough(s.height * s.width),
        )  # fmt: skip
        if self.fits_one_block(s):
            self._level(s, iterations)
        else:
            graph = self._graph(s, iterations, together, stream)
            self._launch_graphs(graph, arena.queue, stream)

    def fits_one_block(self, s: CudaState) -> bool:
        """Return whether a block can run a whole pair; a median filter needs it in memory.

        Parameters
        ----------
        s : CudaState
            State of the pairs.

        Returns
        -------
        bool
            True if it can.
        """
        return tiles(s.height, s.width) == (1, 1) and s.model.median == 1

    def _level(self, s: CudaState, iterations: int) -> None:
        """Launch all warps and iterations of pairs that are one tile each."""
        across, most, _ = TILE_BLOCK
        self.kernels.launch(
            "tvl1_level", (1, 1, s.pairs), (across, min(most, -(-s.height // TILE_ROWS)), 1),
            s.arena.progress, s.arrays["packed"], s.arrays["first"], s.arrays["state"],
            s.arrays["model"], s.pairs, *self._constants(s, iterations),
        )  # fmt: skip

    def _launch_graphs(self, graph: Any, queue: Any, stream: CudaStream) -> None:
        """Launch graphs until no pair is left, one graph ahead of the last known state."""
        told = None
        while True:
            stream.launch(graph)
            asked = stream.download(queue)
            if told is not None and not np.asarray(told)[QUEUE.index("left")]:
                return
            told = asked

    def _graph(self, s: CudaState, iterations: int, together: int, stream: CudaStream) -> Any:
        key = (self.settings, s.height, s.width, s.model, iterations, together)
        graphs = s.arena.graphs
        if key not in graphs:
            self.kernels.load("tvl1_fields", "tvl1_tile")

            def steps() -> None:
                for _ in range(self.settings.steps):
                    self._step(s, iterations, together)

            graphs[key] = stream.launches.record_graph(steps)
        return graphs[key]

    def _step(self, s: CudaState, iterations: int, together: int) -> None:
        """Launch a step of every slot, after the median filter if the model has one."""
        m, arrays, arena = s.model, s.arrays, s.arena
        every = m.median_every if m.median > 1 else 0
        if every:
            self.kernels.over_images(
                "median", 2 * together, s.height, s.stride, arena.progress, arena.slots,
                arrays["state"], arrays["filtered"], s.height, s.width, s.stride, every, m.median,
            )  # fmt: skip
        self.kernels.launch(
            "tvl1_tile", (*tiles(s.height, s.width), together), TILE_BLOCK, arena.progress,
            arena.queue, arena.slots, arrays["packed"], arrays["first"], arrays["state"],
            arrays["model"], arrays["filtered"] if every else None, arrays["partial"],
            *self._constants(s, iterations), every,
        )  # fmt: skip

    def _constants(self, s: CudaState, iterations: int) -> tuple[Any, ...]:
        """Return the common arguments of the kernels tvl1_tile and tvl1_level, in their order."""
        m = s.model
        return (
            s.height, s.width, s.stride, SAMPLINGS.index(m.sampling), m.tau, m.tau / m.theta,
            m.lambda_ * m.theta, iterations, m.block, m.spaced, m.enough(s.height * s.width),
        )  # fmt: skip
