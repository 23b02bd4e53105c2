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
    """Smooth broadband texture, float32 (H, W) in 0..255."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return _scene(x, y, seed).astype(np.float32)


def warped_pair(
    height: int,
    width: int,
    motion: Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]],
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """(first, second, flow (2, H, W)) where flow = motion(x, y) takes first's pixels to second's.

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
    """(first, second) uint8 (H, W): everything moves u pixels right and v down."""
    first, second, _ = warped_pair(height, width, lambda x, y: (u, v), seed)
    return first, second


def _scene(x: NDArray[Any], y: NDArray[Any], seed: int) -> NDArray[Any]:
    """Gray levels 0..255 at any points: wavelengths of 6 to 200 px, the long ones strong."""
    rng = np.random.default_rng(seed)
    length = np.exp(rng.uniform(np.log(6), np.log(200), WAVES))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, WAVES))
    amplitude = np.sqrt(length)
    amplitude *= CONTRAST / np.sqrt((amplitude**2).sum() / 2)
    scene = np.full(x.shape, 128.0)
    for a, f, turn, start in zip(amplitude, 2 * np.pi / length, angle, phase, strict=True):
        scene += a * np.cos((f * np.cos(turn)) * x + (f * np.sin(turn)) * y + start)
    return np.clip(scene, 0, 255)
