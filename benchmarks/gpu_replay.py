"""Iterations of real pairs, instruction counts, a data sheet -> time on a GPU, by a model.

The replay launches what `flowpipe.ops.cuda.schedule` launches, slot after slot, with the iterations
that each pair, level and warp took on the CPU. `ASSUMED` lists everything that is neither counted
nor on a data sheet; `benchmarks/gpu_roofline.py` prints the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flowpipe.ops.cuda.settings import STATE_BYTES, Settings, stride, tiles
from flowpipe.ops.tables import HALO_PX, TILE_PX, TILE_ROWS

ISSUE = 0.7
WARP_IPC = 0.4
CACHE_BYTES_PER_CLOCK, BLOCK_BYTES_PER_CLOCK = 22, 64
CACHE_SHARE = 0.9
MEMORY_SHARE = 0.9
LAUNCH_S, BLOCK_S, EMPTY_BLOCK_S, STEP_S = 1.5e-6, 1.0e-6, 0.6e-6, 0.3e-6
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
    f"{1e6 * BLOCK_S:.1f} us, a block without work {1e6 * EMPTY_BLOCK_S:.1f} us, the end of a step "
    f"of `tvl1_level` {1e6 * STEP_S:.1f} us.",
    "Prologue and epilogue are all instructions before and after the iterations, whether executed "
    "or not.",
    "A launch takes whole waves of tiles, each as long as the mean tile of the level.",
    f"The GPU waits {1e6 * HOST_LEVEL_S:.0f} us for the host after a level whose end the host has "
    "to be notified of.",
    f"Pyramid, upsampling and quantiser take {1e6 * OTHER_S:.0f} us a pair. Decoding, encoding, "
    "copies and camera motion are not counted.",
)


class Gpu(NamedTuple):
    """Values of a GPU from its data sheet."""

    name: str
    architecture: int
    multiprocessors: int
    clock_hz: float
    slots: int
    """Thread instructions that a multiprocessor issues per clock."""
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
    """Instruction counts per thread."""

    prologue: float
    """Instructions of `tvl1_tile` before its first iteration, without a warp."""
    epilogue: float
    inside: float
    """Instructions of an iteration of a tile inside the image."""
    border: float
    """Instructions of an iteration of a tile at a border of the image."""
    warp: float
    """Instructions of a warp of the eight pixels of a thread."""
    level: float
    """Instructions of an iteration of `tvl1_level`."""


class LevelCost(NamedTuple):
    """Cost of a level for all pairs of a call."""

    seconds: float
    launches: int


@dataclass(frozen=True)
class Replay:
    """The schedule of one GPU."""

    gpu: Gpu
    counts: Counts
    settings: Settings = Settings()
    spread: bool = False
    """True to assume that the loads of different multiprocessors are spread evenly over time."""

    def level(self, height: int, width: int, iterations: np.ndarray) -> LevelCost:
        """Replay a level.

        Parameters
        ----------
        height, width : int
        iterations : int (pairs, warps)
        """
        if tiles(height, width) == (1, 1):
            return self._whole_level(height, iterations)
        steps = -(-iterations // HALO_PX)
        together = min(
            len(steps),
            self.settings.pairs_together(
                height, width, int(self.gpu.cache_bytes), self.gpu.multiprocessors
            ),
        )
        working, fresh = _count_slots(steps, together)
        launches = (-(-len(working) // self.settings.steps) + 1) * self.settings.steps
        rate = self._bytes_per_s(together, height, width)
        tile_s, warp_s = (self._tile_s(height, width, rate, warped) for warped in (False, True))
        across, down = tiles(height, width)
        waves = -(-working * across * down // self.gpu.multiprocessors)
        idle = (launches * together - working.sum()) * across * down
        seconds = HOST_LEVEL_S + launches * LAUNCH_S
        seconds += float((waves * (tile_s + (warp_s - tile_s) * fresh / working)).sum())
        return LevelCost(seconds + idle * EMPTY_BLOCK_S / self.gpu.multiprocessors, launches)

    def _whole_level(self, height: int, iterations: np.ndarray) -> LevelCost:
        """Return the cost of a level whose pairs are one tile each, one block per pair."""
        warps = -(-height // TILE_ROWS)
        each = iterations.sum(1) * self._seconds(warps, self.counts.level)
        each += -(-iterations // HALO_PX).sum(1) * STEP_S
        each += iterations.shape[1] * (self._seconds(warps, self.counts.warp) + BLOCK_S)
        busy_s = np.zeros(self.gpu.multiprocessors)
        for seconds in sorted(each, reverse=True):
            busy_s[busy_s.argmin()] += seconds
        return LevelCost(LAUNCH_S + float(busy_s.max()), 1)

    def _tile_s(self, height: int, width: int, bytes_per_s: float, warped: bool) -> float:
        """Return the mean time of a tile of an image, seconds."""
        across, down = tiles(height, width)
        c, compute_s, moved = self.counts, 0.0, 0.0
        for row in range(down):
            for column in range(across):
                rows, own_rows = _side(row, down, height)
                columns, own_columns = _side(column, across, width)
                border = row == down - 1 or column in (0, across - 1)
                warps, every_warp = -(-rows // TILE_ROWS), TILE_PX // TILE_ROWS
                iterations = HALO_PX * (c.border if border else c.inside)
                compute_s += self._seconds(every_warp, c.prologue + c.epilogue)
                compute_s += self._seconds(warps, iterations + warped * c.warp)
                reads, writes = (56, 40) if warped else (40, 24)  # bytes of a pixel
                moved += reads * rows * columns + writes * own_rows * own_columns
        tile_bytes, tile_s = moved / (across * down), BLOCK_S + compute_s / (across * down)
        if self.spread:
            alone = BLOCK_BYTES_PER_CLOCK * self.gpu.clock_hz
            return max(tile_s + tile_bytes / alone, tile_bytes / bytes_per_s)
        return tile_s + tile_bytes / bytes_per_s

    def _seconds(self, warps: int, instructions: float) -> float:
        """Return the time of a block to issue so many instructions per warp, seconds."""
        issue = min(ISSUE * self.gpu.slots / 32, WARP_IPC * warps)
        return float(warps * instructions / (issue * self.gpu.clock_hz))

    def _bytes_per_s(self, pairs: int, height: int, width: int) -> float:
        """Return the bytes per second that a multiprocessor reads and writes with so many pairs."""
        gpu = self.gpu
        state = STATE_BYTES * height * stride(width) * pairs
        hits = min(1.0, CACHE_SHARE * gpu.cache_bytes / state)
        cache = CACHE_BYTES_PER_CLOCK * gpu.clock_hz
        memory = min(cache, MEMORY_SHARE * gpu.memory_bytes_per_s / gpu.multiprocessors)
        return 1 / (hits / cache + (1 - hits) / memory)


def kernels_between(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Count the launches of a call outside the graphs of its steps; `sizes` are its levels.

    Returns
    -------
    (int, int)
        Kernels: those of the pyramid; upsampling but for one level; three that begin a level, one
        that ends it, and one that is all of a level of one tile. Graphs that they go in once the
        call is warm: the pyramid's, and one before, between and behind the levels whose steps are
        graphs.
    """
    whole = sum(tiles(*size) == (1, 1) for size in sizes)
    kernels = len(sizes) + (len(sizes) - 1) + 4 * len(sizes) + whole
    return kernels, 1 + len(sizes) - whole + 1


def _side(number: int, count: int, size: int) -> tuple[int, int]:
    """Return the number of rows or columns that a tile reads, and that it writes."""
    reads = min(TILE_PX, size - number * (TILE_PX - 2 * HALO_PX))
    return reads, reads - HALO_PX * ((number > 0) + (number < count - 1))


def _count_slots(steps: np.ndarray, together: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each step how many slots have a pair, and how many of these run a warp.

    Parameters
    ----------
    steps : int (pairs, warps)
    together : int
        Slots. One whose pair is finished takes the next pair that waits.
    """
    ends = np.zeros(together, int)
    starts = []
    for pair in steps:
        slot = int(ends.argmin())
        starts.append(ends[slot] + np.concatenate([[0], pair.cumsum()[:-1]]))
        ends[slot] += pair.sum()
    fresh = np.bincount(np.concatenate(starts), minlength=ends.max())
    return (ends > np.arange(ends.max())[:, None]).sum(1), fresh
