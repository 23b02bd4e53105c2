"""A clip of the demo set -> its frames before coding, and the ground truth of every frame pair.

A scene is a large background texture seen by a moving camera, and a patch that moves over it.
Frames are rendered at twice their size and averaged down, so edges move by fractions of a pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.demo.motion import (
    CAMERAS,
    CLASS_NAMES,
    HEIGHT,
    WIDTH,
    SceneTrajectory,
    draw_trajectory,
)
from flowpipe.datasets.demo.texture import blob, leaves

_WORLD = (700, 1060)  # background texture, two texture pixels per frame pixel; no pan leaves it
_PATCH = 256
_FINE = np.array(
    [[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]]
)  # frame pixel -> its 2x2 fine pixels' middle


@dataclass(frozen=True)
class SceneGroundTruth:
    """True camera motion, flow and masks of the N - 1 frame pairs of a clip."""

    homography: NDArray[np.float64]
    """(N-1, 3, 3): camera motion; maps background pixels of frame k to frame k + 1."""
    flow: NDArray[np.float32]
    """(N-1, 2, H, W): u right, v down, pixels."""
    foreground: NDArray[np.bool_]
    """(N-1, H, W): pixels of frame k that show the patch."""
    valid: NDArray[np.bool_]
    """(N-1, H, W): pixels of frame k that show only the patch or only the background and are
    visible in frame k + 1. Elsewhere (edges, occlusion, image border) flow is not observable."""


@dataclass(frozen=True)
class Scene:
    """Textures and motion of one clip."""

    background: NDArray[np.uint8]
    patch: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    motion: SceneTrajectory

    def frames(self, numbers: Iterable[int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Render frames.

        Parameters
        ----------
        numbers : iterable of int, optional
            Numbers of the frames, from 0; default: all.

        Yields
        ------
        uint8 (H, W, 3)
            RGB.
        """
        back = _about_middle(self.background.shape)
        front = _about_middle(self.patch.shape)
        for k in range(len(self.motion.camera)) if numbers is None else numbers:
            camera, patch = self.motion.camera[k], self.motion.patch[k]
            fine = _view(self.background, _FINE @ camera @ back, cv2.BORDER_REFLECT_101)
            place = _FINE @ camera @ patch @ front
            left, top, size = _box(place, self.patch.shape)
            place = _shift(-left, -top) @ place  # only the box that the patch can touch
            alpha = _view(self.alpha, place, cv2.BORDER_CONSTANT, size)[:, :, None]
            leaf = _view(self.patch, place, cv2.BORDER_CONSTANT, size)
            box = fine[top : top + size[1], left : left + size[0]]
            box[:] = np.rint(box + (leaf.astype(np.float32) - box) * alpha)
            yield np.asarray(cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))

    def ground_truth(self) -> SceneGroundTruth:
        """Compute homographies, flow and masks of all pairs."""
        front = _about_middle(self.patch.shape)
        masks = np.stack(
            [
                cv2.resize(
                    _view(self.alpha, _FINE @ camera @ patch @ front, cv2.BORDER_CONSTANT),
                    (WIDTH, HEIGHT),
                    interpolation=cv2.INTER_AREA,
                )
                for camera, patch in zip(self.motion.camera, self.motion.patch, strict=True)
            ]
        )
        homography = self.motion.background
        foreground = masks[:-1] > 0.5
        flow = np.where(
            foreground[:, None], _displacement(self.motion.foreground), _displacement(homography)
        ).astype(np.float32)
        grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))).astype(np.float32)
        valid = np.empty(foreground.shape, bool)
        for k, (shown, after) in enumerate(zip(masks[:-1], masks[1:], strict=True)):
            x, y = grid + flow[k]
            inside = (x > 1) & (x < WIDTH - 2) & (y > 1) & (y < HEIGHT - 2)
            then = cv2.remap(after, x, y, cv2.INTER_LINEAR)
            pure_patch = (shown > 0.99) & (then > 0.99)
            pure_back = (shown < 0.01) & (then < 0.01)
            valid[k] = inside & (pure_patch | pure_back)
        return SceneGroundTruth(homography, flow, foreground, valid)


def make_scene(seed: int, class_name: str, clip: int) -> Scene:
    """Draw the scene of one clip at random; the same arguments give the same scene.

    Parameters
    ----------
    seed : int
        Seed of the set.
    class_name : str
        Class of the clip.
    clip : int
        Number of the clip in its class.

    Returns
    -------
    Scene
        The scene.
    """
    rng = np.random.default_rng([seed, CLASS_NAMES.index(class_name), clip])
    motion = draw_trajectory(rng, class_name, CAMERAS[clip])
    return Scene(
        background=leaves(rng, *_WORLD),
        patch=leaves(rng, _PATCH, _PATCH),
        alpha=blob(rng, _PATCH, 2 * rng.uniform(34, 43)),
        motion=motion,
    )


def _view(
    texture: NDArray[Any],
    place: NDArray[np.float64],
    border: int,
    size: tuple[int, int] = (2 * WIDTH, 2 * HEIGHT),
) -> NDArray[Any]:
    """Render a texture at twice the frame size; `place` maps its pixels to those of the result."""
    return cv2.warpPerspective(texture, place, size, flags=cv2.INTER_LINEAR, borderMode=border)


def _box(place: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int, tuple[int, int]]:
    """Return left, top and (width, height) of the box that a texture covers in the fine frame."""
    corners = place @ np.array([[0, shape[1], shape[1], 0], [0, 0, shape[0], shape[0]], [1] * 4])
    low = np.clip(np.floor((corners[:2] / corners[2]).min(1)), 0, (2 * WIDTH - 1, 2 * HEIGHT - 1))
    high = np.clip(np.ceil((corners[:2] / corners[2]).max(1)), low + 1, (2 * WIDTH, 2 * HEIGHT))
    return int(low[0]), int(low[1]), (int(high[0] - low[0]), int(high[1] - low[1]))


def _shift(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _about_middle(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return (3, 3): texture pixels, two per frame pixel -> frame pixels from the centre."""
    return np.array([[0.5, 0, -(shape[1] - 1) / 4], [0, 0.5, -(shape[0] - 1) / 4], [0, 0, 1]])


def _displacement(homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the displacement of each pixel, (N, 2, H, W), under homographies (N, 3, 3)."""
    x, y = np.meshgrid(np.arange(WIDTH, dtype=float), np.arange(HEIGHT, dtype=float))
    points = np.stack((x, y, np.ones_like(x))).reshape(3, -1)
    moved = homography @ points
    flow: NDArray[np.float64] = moved[:, :2] / moved[:, 2:] - points[:2]
    return flow.reshape(-1, 2, HEIGHT, WIDTH)
