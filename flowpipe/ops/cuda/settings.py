"""Settings of TV-L1's schedule on a GPU that affect speed only.

`flowpipe bench flow --device cuda --tune` measures them on this machine's GPU. The environment
variable FLOWPIPE_CUDA_SETTINGS sets them, such as ``steps=4,cache_share=2``. They do not change the
flow.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from math import inf

from flowpipe.errors import BackendError
from flowpipe.ops.tables import COEFFICIENTS, HALO_PX, TILE_PX, UNKNOWNS
from flowpipe.words import unknown_name

VARIABLE = "FLOWPIPE_CUDA_SETTINGS"

ROW_FLOATS = 16  # rows are padded to these: two fields of a row are whole cache lines
STATE_BYTES = 4 * (2 * len(UNKNOWNS) + len(COEFFICIENTS))
"""Bytes of a pixel: two copies of the unknowns, and the coefficients."""

LEAST_WINDOW_BYTES = 32 << 20  # 5 frames of 1080p, one of 4K
MOST_WINDOW_BYTES = 96 << 20  # 16 and 4
WINDOW_SHARE = 1 / 64  # of free memory: two windows with their flow, and TV-L1, take 50 times more


def window_bytes(free: int) -> int:
    """Return the size of a window on a GPU.

    Parameters
    ----------
    free : int
        Free memory of the GPU, bytes.

    Returns
    -------
    int
        Bytes of the RGB frames.
    """
    return min(MOST_WINDOW_BYTES, max(LEAST_WINDOW_BYTES, int(WINDOW_SHARE * free)))


def stride(width: int) -> int:
    """Return the columns of a row of a state in memory, padded to `ROW_FLOATS`.

    Parameters
    ----------
    width : int
        Width of the image, pixels.

    Returns
    -------
    int
        Floats of a row.
    """
    return -(-width // ROW_FLOATS) * ROW_FLOATS


def tiles(height: int, width: int) -> tuple[int, int]:
    """Return the number of tiles that cover an image, halos not counted.

    Parameters
    ----------
    height, width : int
        Size of the image, pixels.

    Returns
    -------
    (across, down)
        Number of tiles.
    """
    step = TILE_PX - 2 * HALO_PX
    across, down = (max(1, -(-(size - 2 * HALO_PX) // step)) for size in (width, height))
    return across, down


@dataclass(frozen=True)
class Settings:
    """Settings of the schedule; the defaults come from the model in docs/gpu-roofline.md."""

    steps: int = 8
    """Steps per CUDA graph; one graph is always queued ahead."""
    cache_share: float = 1.0
    """State of all pairs that run concurrently, as a share of the L2 cache."""
    least_tiles: int = 2
    """Least number of tiles per multiprocessor; takes precedence over `cache_share`."""
    blocks: int = 1
    """Tiles that a multiprocessor processes at once, 1 or 2. With 2, one can load while the other
    computes, but a thread has 64 registers instead of 128, and spills. A compile-time setting."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.least_tiles < 1 or not 0 <= self.cache_share < inf:
            raise ValueError(
                "steps and least_tiles must be at least 1, cache_share finite and at least 0"
            )
        if self.blocks not in (1, 2):
            raise ValueError(f"blocks must be 1 or 2, got {self.blocks}")

    @property
    def definitions(self) -> dict[str, tuple[str, ...]]:
        """Kernel file -> compiler options that the settings add; empty for the defaults."""
        return {"tvl1_tile": (f"-DTILE_BLOCKS={self.blocks}",)} if self.blocks > 1 else {}

    @classmethod
    def from_environment(cls) -> Settings:
        """Return the settings of this process: the defaults, changed by the environment.

        Returns
        -------
        Settings
            The settings.

        Raises
        ------
        BackendError
            If the environment names an unknown setting or an invalid value.
        """
        text = os.environ.get(VARIABLE, "")
        kinds = {name: type(value) for name, value in asdict(cls()).items()}
        try:
            given = dict(part.split("=") for part in text.split(",") if part.strip())
            for name in map(str.strip, given):
                if name not in kinds:
                    raise BackendError(f"{VARIABLE}: {unknown_name('setting', name, kinds)}")
            return cls(**{name.strip(): kinds[name.strip()](n) for name, n in given.items()})
        except ValueError as error:
            raise BackendError(
                f"{VARIABLE}={text!r} cannot be used ({error}): wanted something like {cls()}"
            ) from error

    def __str__(self) -> str:
        return ",".join(f"{name}={value:g}" for name, value in asdict(self).items())

    def pairs_together(
        self, height: int, width: int, cache_bytes: int, multiprocessors: int
    ) -> int:
        """Return the number of pairs of a size that run concurrently.

        It fits the cache, or gives each multiprocessor its least number of tiles if that is more.
        It is then raised to fill the last wave of tiles.

        Parameters
        ----------
        height, width : int
            Size of a pair, pixels.
        cache_bytes : int
            Size of the L2 cache.
        multiprocessors : int
            Number of multiprocessors.

        Returns
        -------
        int
            Number of pairs.
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
