"""Settings of TV-L1's schedule on a GPU that only a measurement can choose, in one place.

`flowpipe bench flow --device cuda --tune` measures them on the GPU at hand. The environment
variable FLOWPIPE_CUDA_SETTINGS changes them, as ``steps=4,cache_share=2``. Flow does not depend on
them.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from math import inf

from flowpipe.errors import BackendError

VARIABLE = "FLOWPIPE_CUDA_SETTINGS"

TILE_PX, HALO_PX = 64, 4  # TILE and ITERATIONS of kernels/cuda/tile.cuh
ROW_FLOATS = 16  # rows are padded to these: two fields of a row are whole cache lines
STATE_BYTES = 4 * (2 * 6 + 4)  # of a pixel: two copies of six fields, four coefficients

LEAST_WINDOW_BYTES = 32 << 20  # 5 frames of 1080p, one of 4K
MOST_WINDOW_BYTES = 96 << 20  # 16 and 4
WINDOW_SHARE = 1 / 64  # of free memory: two windows with their flow, and TV-L1, take 50 times more


def window_bytes(free: int) -> int:
    """Return how many bytes of RGB frames make a window on a GPU with so much free memory."""
    return min(MOST_WINDOW_BYTES, max(LEAST_WINDOW_BYTES, int(WINDOW_SHARE * free)))


def stride(width: int) -> int:
    """Return the columns of a row of a state in memory."""
    return -(-width // ROW_FLOATS) * ROW_FLOATS


def tiles(height: int, width: int) -> tuple[int, int]:
    """(across, down): tiles that cover an image, their halos apart."""
    step = TILE_PX - 2 * HALO_PX
    across, down = (max(1, -(-(size - 2 * HALO_PX) // step)) for size in (width, height))
    return across, down


@dataclass(frozen=True)
class Settings:
    """Settings of the schedule; the defaults are those of the model in docs/gpu-roofline.md."""

    steps: int = 8
    """Steps of a CUDA graph, which is launched once ahead of what is known to be needed."""
    cache_share: float = 1.0
    """Size of the state of all pairs that are worked on together, as a share of the L2 cache."""
    least_tiles: int = 2
    """Tiles for each multiprocessor, at least; takes precedence over `cache_share`."""
    blocks: int = 1
    """Tiles that a multiprocessor works on at once, 1 or 2: with 2 one may load while the other
    computes, but a thread has 64 registers instead of 128, and spills. Compiled in."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.least_tiles < 1 or not 0 <= self.cache_share < inf:
            raise ValueError(
                "steps and least_tiles must be at least 1, cache_share finite and at least 0"
            )
        if self.blocks not in (1, 2):
            raise ValueError(f"blocks must be 1 or 2, got {self.blocks}")

    @property
    def definitions(self) -> dict[str, tuple[str, ...]]:
        """File of kernels -> options that it is compiled with; none for the default."""
        return {"tvl1_tile": (f"-DTILE_BLOCKS={self.blocks}",)} if self.blocks > 1 else {}

    @classmethod
    def asked(cls) -> Settings:
        """Return the settings of this process: the defaults, or what the environment says.

        Raises
        ------
        BackendError
            If the environment names a setting that does not exist, or an impossible value.
        """
        text = os.environ.get(VARIABLE, "")
        kinds = {name: type(value) for name, value in asdict(cls()).items()}
        try:
            given = dict(part.split("=") for part in text.split(",") if part.strip())
            return cls(**{name.strip(): kinds[name.strip()](n) for name, n in given.items()})
        except (KeyError, ValueError) as error:
            raise BackendError(
                f"{VARIABLE}={text!r} cannot be used ({error}): wanted something like {cls()}"
            ) from error

    def __str__(self) -> str:
        return ",".join(f"{name}={value:g}" for name, value in asdict(self).items())

    def pairs_together(
        self, height: int, width: int, cache_bytes: int, multiprocessors: int
    ) -> int:
        """Return how many pairs of a size are worked on together.

        As many as the cache holds or as give each multiprocessor its tiles; then as many more as
        fill the last wave of tiles.
        """
        across, down = tiles(height, width)
        at_once = multiprocessors * self.blocks
        pair_bytes = STATE_BYTES * height * stride(width)
        least = max(
            1,
            int(self.cache_share * cache_bytes / pair_bytes),
            self.least_tiles * multiprocessors // (across * down),
        )
        waves = -(-least * across * down // at_once)
        return max(least, waves * at_once // (across * down))
