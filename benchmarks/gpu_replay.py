"""Iterations of real pairs, instruction counts, a data sheet -> seconds of a GPU: a model.

The replay launches what `flowpipe.ops.cuda_ladder` launches, slot after slot, with the iterations
that each pair, level and warp took on the CPU. `ASSUMED` lists everything that is neither counted
nor on a data sheet; `benchmarks/gpu_roofline.py` prints the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flowpipe.ops.cuda_settings import HALO_PX, TILE_PX, Settings, tiles

ISSUE = 0.7
WARP_IPC = 0.4
CACHE_BYTES_PER_CLOCK, BLOCK_BYTES_PER_CLOCK = 22, 64
CACHE_SHARE = 0.9
MEMORY_SHARE = 0.9
LAUNCH_S, BLOCK_S, EMPTY_BLOCK_S = 1.5e-6, 1.0e-6, 0.6e-6
HOST_LEVEL_S, OTHER_S = 60e-6, 3e-6

ASSUMED = (
    f"{ISSUE:.0%} of the issue slots are used where 16 warps share a multiprocessor; one warp "
    f"alone issues {WARP_IPC} instructions per clock.",
    "One block of `tvl1_tile` fills a multiprocessor: its load, compute and store add up. The "
    "lower figure has all multiprocessors load at the same time, the higher one spreads their "
    f"loads evenly, at up to {BLOCK_BYTES_PER_CLOCK} bytes per clock and multiprocessor.",
    f"The L2 cache gives {CACHE_BYTES_PER_CLOCK} bytes per clock and multiprocessor. "
    f"{CACHE_SHARE:.0%} of it holds the state of the pairs at work, the rest of the state comes "
    f"from memory, at {MEMORY_SHARE:.0%} of the data sheet's speed.",
    f"A kernel of a graph costs {1e6 * LAUNCH_S:.1f} us, the start of a block "
    f"{1e6 * BLOCK_S:.1f} us, a block without work {1e6 * EMPTY_BLOCK_S:.1f} us.",
    "A launch takes whole waves of tiles, each as long as the mean tile of the level.",
    f"The GPU waits {1e6 * HOST_LEVEL_S:.0f} us for the host after a level whose end the host has "
    "to learn.",
    f"Pyramid, upsampling and quantiser take {1e6 * OTHER_S:.0f} us a pair. Decoding, encoding, "
    "copies and camera motion are not counted.",
)


class Gpu(NamedTuple):
    """A data sheet."""

    name: str
    architecture: int
    multiprocessors: int
    clock_hz: float
    slots: int
    """Instructions of a thread that a multiprocessor issues in a clock."""
    memory_bytes_per_s: float
    cache_bytes: float
    """Size of the L2 cache."""


GPUS = (
    Gpu("T4", 75, 40, 1.59e9, 64, 320e9, 4e6),
    Gpu("A100", 80, 108, 1.41e9, 64, 1555e9, 40e6),
    Gpu("RTX 3090", 86, 82, 1.70e9, 128, 936e9, 6e6),
    Gpu("RTX 4090", 89, 128, 2.52e9, 128, 1008e9, 72e6),
    Gpu("H100 SXM", 90, 132, 1.83e9, 128, 3350e9, 50e6),
    Gpu("B200", 100, 148, 1.85e9, 128, 8000e9, 126e6),
    Gpu("RTX 5090", 120, 170, 2.41e9, 128, 1792e9, 96e6),
)


class Counts(NamedTuple):
    """Instructions of a thread of `tvl1_tile`, and of the warp of one pixel."""

    prologue: float
    epilogue: float
    inside: float
    """An iteration of a tile inside the image."""
    border: float
    """An iteration of a tile at a border of the image."""
    warp: float


class Cost(NamedTuple):
    """What a level takes for all pairs of a call."""

    seconds: float
    launches: int


@dataclass(frozen=True)
class Replay:
    """The schedule of one GPU."""

    gpu: Gpu
    counts: Counts
    settings: Settings = Settings()
    spread: bool = False
    """Whether loads of different multiprocessors are taken to be spread evenly over time."""

    def level(self, height: int, width: int, iterations: np.ndarray) -> Cost:
        """Replay a level.

        Parameters
        ----------
        height, width : int
        iterations : int (pairs, warps)
        """
        gpu = self.gpu
        pairs = self.settings.pairs_together(
            height, width, int(gpu.cache_bytes), gpu.multiprocessors
        )
        seconds, launches = HOST_LEVEL_S, 0
        for base in range(0, len(iterations), pairs):
            cost = self._ladder(height, width, iterations[base : base + pairs])
            seconds, launches = seconds + cost.seconds, launches + cost.launches
        return Cost(seconds, launches)

    def _ladder(self, height: int, width: int, iterations: np.ndarray) -> Cost:
        """Slots until the slowest pair of a group is done, and the rungs that are then empty."""
        steps = -(-iterations // HALO_PX)
        needed = int(steps.sum(1).max())
        working, fresh = np.zeros(needed, int), np.zeros(needed, int)
        for pair in steps:
            working[: pair.sum()] += 1
            fresh[np.concatenate([[0], pair.cumsum()[:-1]])] += 1
        slots = (-(-needed // self.settings.slots) + 1) * self.settings.slots
        rate = self._bytes_per_s(len(steps), height, width)
        working.resize(slots), fresh.resize(slots)
        tile_s = self._tile_s(height, width, rate)
        idle = len(steps) - working
        seconds = sum(self._launch_s(work, tile_s, tiles(height, width)) for work in working)
        across, down = tiles(height, width)
        seconds += float(idle.sum()) * across * down * EMPTY_BLOCK_S / self.gpu.multiprocessors
        seconds += self._warps_s(height, width, fresh, len(steps), rate)
        return Cost(seconds, 2 * slots)

    def _launch_s(self, pairs: int, tile_s: float, grid: tuple[int, int]) -> float:
        waves = -(-pairs * grid[0] * grid[1] // self.gpu.multiprocessors)
        return float(LAUNCH_S + waves * tile_s)

    def _warps_s(
        self, height: int, width: int, fresh: np.ndarray, pairs: int, bytes_per_s: float
    ) -> float:
        """Launches of `tvl1_warp`: four blocks at a time share a multiprocessor."""
        gpu = self.gpu
        blocks = -(-width // 32) * -(-height // 8)
        issue = ISSUE * gpu.slots / 32 * gpu.clock_hz * gpu.multiprocessors
        each = 8 * blocks * self.counts.warp / issue
        each += 44 * height * width / (bytes_per_s * gpu.multiprocessors)
        empty = blocks * EMPTY_BLOCK_S / (4 * gpu.multiprocessors)
        return float(
            len(fresh) * LAUNCH_S + fresh.sum() * each + (pairs - fresh).sum() * empty
        )  # fmt: skip

    def _tile_s(self, height: int, width: int, bytes_per_s: float) -> float:
        """Seconds of the mean tile of an image."""
        across, down = tiles(height, width)
        compute_s, moved = 0.0, 0.0
        for row in range(down):
            for column in range(across):
                rows, own_rows = _side(row, down, height)
                columns, own_columns = _side(column, across, width)
                border = row in (0, down - 1) or column in (0, across - 1)
                compute_s += self._compute_s(TILE_PX // 4, border) / (across * down)
                moved += (40 * rows * columns + 24 * own_rows * own_columns) / (across * down)
        if self.spread:
            alone = BLOCK_BYTES_PER_CLOCK * self.gpu.clock_hz
            return max(BLOCK_S + compute_s + moved / alone, moved / bytes_per_s)
        return BLOCK_S + compute_s + moved / bytes_per_s

    def _compute_s(self, warps: int, border: bool) -> float:
        c = self.counts
        each = c.prologue + c.epilogue + HALO_PX * (c.border if border else c.inside)
        issue = min(ISSUE * self.gpu.slots / 32, WARP_IPC * warps)
        return float(warps * each / (issue * self.gpu.clock_hz))

    def _bytes_per_s(self, pairs: int, height: int, width: int) -> float:
        """What a multiprocessor reads and writes, with so many pairs at work."""
        gpu = self.gpu
        state = 64 * height * (-(-width // 32) * 32) * pairs
        hits = min(1.0, CACHE_SHARE * gpu.cache_bytes / state)
        cache = CACHE_BYTES_PER_CLOCK * gpu.clock_hz
        memory = min(cache, MEMORY_SHARE * gpu.memory_bytes_per_s / gpu.multiprocessors)
        return 1 / (hits / cache + (1 - hits) / memory)


def _side(number: int, count: int, size: int) -> tuple[int, int]:
    """Rows or columns that a tile reads, and that it writes."""
    reads = min(TILE_PX, size - number * (TILE_PX - 2 * HALO_PX))
    return reads, reads - HALO_PX * ((number > 0) + (number < count - 1))
