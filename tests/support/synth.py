"""Seeds -> images with texture at every scale, and pairs of them whose motion is exactly known.

The scene is a sum of plane waves and has a value at every point of the plane: frames in motion are
evaluated, not interpolated. (OpenCV's bicubic kernel alone shifts an image by up to 0.05 px.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAVES = 96
CONTRAST = 45.0  # standard deviation of the scene in gray levels


def texture(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """Return a smooth broadband texture, float32 (H, W) in 0..255."""
    return _scene_on_grid(np.arange(width), np.arange(height), seed).astype(np.float32)


def warped_pair(
    height: int,
    width: int,
    motion: Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]],
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Return (first, second, flow (2, H, W)); flow = motion(x, y) moves first's pixels to second's.

    What moves into the frame is real: the scene has no border.
    """
    y, x = np.mgrid[:height, :width].astype(np.float64)
    u, v = (np.broadcast_to(np.asarray(c, np.float64), x.shape) for c in motion(x, y))
    first, second = _scene(x + u, y + v, seed), _scene(x, y, seed)
    flow = np.stack([u, v]).astype(np.float32)
    return np.rint(first).astype(np.uint8), np.rint(second).astype(np.uint8), flow


def translated_pair(
    height: int, width: int, u: float, v: float, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return (first, second) uint8 (H, W): everything moves u pixels right and v down."""
    x, y = np.arange(width), np.arange(height)
    first, second = _scene_on_grid(x + u, y + v, seed), _scene_on_grid(x, y, seed)
    return np.rint(first).astype(np.uint8), np.rint(second).astype(np.uint8)


def _waves(seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return (amplitude, x and y frequency in rad/px, phase) of waves of 6 to 200 px."""
    rng = np.random.default_rng(seed)
    length = np.exp(rng.uniform(np.log(6), np.log(200), WAVES))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, WAVES))
    amplitude = np.sqrt(length)
    amplitude *= CONTRAST / np.sqrt((amplitude**2).sum() / 2)
    frequency = 2 * np.pi / length
    return amplitude, frequency * np.cos(angle), frequency * np.sin(angle), phase


def _scene(x: NDArray[Any], y: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return the gray levels 0..255 at any points."""
    scene = np.full(x.shape, 128.0)
    for amplitude, f_x, f_y, phase in zip(*_waves(seed), strict=True):
        scene += amplitude * np.cos(f_x * x + f_y * y + phase)
    return np.clip(scene, 0, 255)


def _scene_on_grid(x: NDArray[Any], y: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return the gray levels at all points of columns (W,) and rows (H,), with few cosines."""
    amplitude, f_x, f_y, phase = _waves(seed)
    across, down = np.outer(f_x, x), np.outer(y, f_y) + phase
    scene = (amplitude * np.cos(down)) @ np.cos(across)
    scene -= (amplitude * np.sin(down)) @ np.sin(across)
    return np.clip(scene + 128.0, 0, 255)
