"""The `flowpipe` command line for tests, and small clips to run it on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def command(*arguments: object) -> list[str]:
    """The command line of `flowpipe`, in the interpreter that runs the tests."""
    return [sys.executable, "-m", "flowpipe", *map(str, arguments)]


def moving_clip(
    seed: int, frames: int = 30, height: int = 48, width: int = 64
) -> NDArray[np.uint8]:
    """uint8 (T, H, W, 3): coarse colour noise that drifts by one or two pixels a frame."""
    rng = np.random.default_rng(seed)
    step = 1 + seed % 2
    rows, columns = (height + frames) // 4 + 1, (width + step * frames) // 4 + 1
    coarse = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    scene = coarse.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([scene[k : k + height, step * k : step * k + width] for k in range(frames)])
