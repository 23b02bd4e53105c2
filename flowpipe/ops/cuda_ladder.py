"""Pairs at one scale on a GPU -> their flow: launches that need no word from the host.

A ladder of slots, each a warp and a tile step over all pairs; on the device every pair takes from
a slot what it needs next (kernels/cuda/progress.cuh). The host queues slots a rung at a time, one
rung ahead of what it knows to be needed, so the device never waits for it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops import TVL1Model
from flowpipe.ops.cuda_kernels import Kernels
from flowpipe.ops.cuda_lanes import Lane
from flowpipe.ops.cuda_settings import HALO_PX, Settings, tiles

BORDER_PX = 4  # of a packed image, kernels/cuda/tvl1_warp.cu
TILE_BLOCK = (32, 16, 1)
FIELDS = ("u", "v", "p11", "p12", "p21", "p22")  # enum Field, kernels/cuda/progress.cuh
COEFFICIENTS = ("a", "b", "c", "g")
PROGRESS = ("warps", "fresh", "done", "look", "end", "converged", "side", "arrived", "total")
SAMPLINGS = ("catmull_rom", "thirtyseconds", "keys")  # enum Sampling, kernels/cuda/tvl1_warp.cu
ROW_FLOATS = 32  # rows of fields begin at a cache line


class Layout:
    """Where the arrays of `capacity` pairs of one size lie in an arena, in floats."""

    def __init__(self, capacity: int, height: int, width: int) -> None:
        self.stride = -(-width // ROW_FLOATS) * ROW_FLOATS
        plane = height * self.stride
        packed = (height + 2 * BORDER_PX) * (width + 2 * BORDER_PX) * 4
        across, down = tiles(height, width)
        each = {
            "first": plane,
            "packed": packed,
            "model": len(COEFFICIENTS) * plane,
            "state": 2 * len(FIELDS) * plane,
            "filtered": 2 * plane,
            "partial": across * down * HALO_PX,
        }
        self.places: dict[str, slice] = {}
        self.floats = 0
        for name, floats in each.items():
            self.places[name] = slice(self.floats, self.floats + capacity * floats)
            self.floats += -(-capacity * floats // ROW_FLOATS) * ROW_FLOATS


class Arena:
    """Device memory for the states of some pairs, scale after scale, and the graphs recorded on it.

    Parameters
    ----------
    cupy : module
    capacity, height, width : int
        Most pairs, and their largest size.
    """

    def __init__(self, cupy: Any, capacity: int, height: int, width: int) -> None:
        self.capacity, self.height, self.width = capacity, height, width
        self.floats = cupy.empty(Layout(capacity, height, width).floats, np.float32)
        self.progress = cupy.empty((capacity, len(PROGRESS)), np.int32)
        self.left = cupy.empty(1, np.int32)
        self.graphs: dict[Any, Any] = {}

    def fits(self, pairs: int, height: int, width: int) -> bool:
        """Whether states of so many pairs of this size have room without waste."""
        return pairs <= self.capacity and (height, width) == (self.height, self.width)


class CudaState:
    """Fields of N pairs at one scale, in an arena."""

    def __init__(self, arena: Arena, model: TVL1Model, first: Any) -> None:
        self.first, self.arena, self.model = first, arena, model
        self.pairs, self.height, self.width = first.shape
        layout = Layout(arena.capacity, self.height, self.width)
        self.stride = layout.stride
        self.arrays = {name: arena.floats[place] for name, place in layout.places.items()}

    def field(self, name: str) -> NDArray[np.float32]:
        """f32 (N, H, W) copy on the host, of a state that has been waited for."""
        if name in COEFFICIENTS:
            planes = self._planes("model", 1, len(COEFFICIENTS))
            chosen = planes[:, 0, COEFFICIENTS.index(name)]
        else:
            side = self.arena.progress.get()[: self.pairs, PROGRESS.index("side")]
            planes = self._planes("state", 2, len(FIELDS))
            chosen = planes[np.arange(self.pairs), side, FIELDS.index(name)]
        return chosen[:, :, : self.width].copy()

    def _planes(self, name: str, sides: int, fields: int) -> NDArray[np.float32]:
        shape = (self.arena.capacity, sides, fields, self.height, self.stride)
        planes: NDArray[np.float32] = self.arrays[name].get().reshape(shape)[: self.pairs]
        return planes


class Ladder:
    """Runs the warps of states.

    Parameters
    ----------
    cupy : module
    kernels : Kernels
    cache_bytes : int
        State that stays in the device's cache: of large images so many pairs go together.
    multiprocessors : int
        Each works on one tile at a time.
    settings : Settings, optional
        May be replaced between calls.
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        cache_bytes: int,
        multiprocessors: int,
        settings: Settings | None = None,
    ) -> None:
        self.cupy, self.kernels, self.settings = cupy, kernels, settings or Settings()
        self.cache_bytes, self.multiprocessors = cache_bytes, multiprocessors

    def start(self, state: CudaState, second: Any, flow: Any | None) -> None:
        """Fill a state's memory: the second image, the flow it begins with, p = 0."""
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

    def climb(self, state: CudaState, warps: int, iterations: int, lane: Lane) -> None:
        """Launch rungs until every pair has done so many warps."""
        s, m = state, state.model
        self.kernels.over_values(
            "tvl1_begin", 1, s.pairs, s.arena.progress, s.arena.left, s.pairs, warps, iterations,
            m.block, m.spaced, m.enough(s.height * s.width),
        )  # fmt: skip
        pairs = self.settings.pairs_together(
            s.height, s.width, self.cache_bytes, self.multiprocessors
        )
        for base in range(0, s.pairs, pairs):
            count = min(pairs, s.arena.capacity - base)
            graph = self._graph(s, iterations, base, count, lane.stream)
            self._rungs(graph, s.arena.left, s.pairs - min(base + count, s.pairs), lane)

    def _rungs(self, graph: Any, left: Any, wanted: int, lane: Lane) -> None:
        """Rungs until no more than `wanted` pairs are left, one ahead of what is known."""
        told = None
        while True:
            graph.launch(lane.stream)
            asked = lane.download(left)
            if told is not None and int(np.asarray(told)[0]) <= wanted:
                return
            told = asked

    def _graph(self, s: CudaState, iterations: int, base: int, count: int, stream: Any) -> Any:
        key = (self.settings, s.height, s.width, s.model, iterations, base, count)
        graphs = s.arena.graphs
        if key not in graphs:
            self.kernels.load("tvl1_warp", "tvl1_tile")
            stream.begin_capture()
            try:
                for _ in range(self.settings.slots):
                    self._slot(s, iterations, base, count)
            except BaseException:
                with suppress(Exception):  # of a capture that broke
                    stream.end_capture()
                raise
            graphs[key] = stream.end_capture()
        return graphs[key]

    def _slot(self, s: CudaState, iterations: int, base: int, count: int) -> None:
        """A warp for pairs that need one, a median filter where one is wanted, a tile step."""
        m, arrays, progress = s.model, s.arrays, s.arena.progress
        every = m.median_every if m.median > 1 else 0
        self._warp(s, base, count)
        if every:
            self.kernels.over_images(
                "median", 2 * count, s.height, s.width, progress, arrays["state"],
                arrays["filtered"], base, s.height, s.width, s.stride, every, m.median,
            )  # fmt: skip
        self.kernels.launch(
            "tvl1_tile", (*tiles(s.height, s.width), count), TILE_BLOCK,
            progress, arrays["model"], arrays["state"], arrays["filtered"] if every else None,
            arrays["partial"], s.arena.left, base, s.height, s.width, s.stride,
            m.tau, m.tau / m.theta, m.lambda_ * m.theta, iterations, m.block, m.spaced,
            m.enough(s.height * s.width), every,
        )  # fmt: skip

    def _warp(self, s: CudaState, base: int, count: int) -> None:
        self.kernels.over_images(
            "tvl1_warp", count, s.height, s.width, s.arena.progress, s.arrays["packed"],
            s.arrays["first"], s.arrays["state"], s.arrays["model"], base, s.height, s.width,
            s.stride, SAMPLINGS.index(s.model.sampling),
        )  # fmt: skip
