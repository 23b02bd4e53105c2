"""Seeds -> images with texture at every scale, and pairs of them whose motion is known."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN_PX = 32


def texture(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """Smooth broadband texture, float32 (H, W) in 0..255: noise of several widths, summed."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width))
    for sigma in (1.5, 3, 6, 12, 24):
        noise = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), sigma)
        image += noise / max(float(noise.std()), 1e-9)
    low, high = image.min(), image.max()
    return (255 * (image - low) / max(high - low, 1e-9)).astype(np.float32)


def warped_pair(
    height: int,
    width: int,
    motion: Callable[[NDArray, NDArray], tuple[NDArray, NDArray]],
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """(first, second, flow (2, H, W)) where flow = motion(x, y) takes first's pixels to second's.

    The first frame is sampled from the second's texture, so that the flow is exact at every pixel;
    the texture reaches beyond the frame, so that what moves in is real.
    """
    m = MARGIN_PX
    scene = texture(height + 2 * m, width + 2 * m, seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    u, v = (np.broadcast_to(np.asarray(c, np.float64), x.shape) for c in motion(x, y))
    first = cv2.remap(
        scene, (x + u + m).astype(np.float32), (y + v + m).astype(np.float32),
        cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    second = scene[m : m + height, m : m + width]
    flow = np.stack([u, v]).astype(np.float32)
    return _to_bytes(first), _to_bytes(second), flow


def translated_pair(
    height: int, width: int, u: float, v: float, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(first, second) uint8 (H, W): everything moves u pixels right and v down."""
    first, second, _ = warped_pair(height, width, lambda x, y: (u, v), seed)
    return first, second


def _to_bytes(image: NDArray) -> NDArray[np.uint8]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
