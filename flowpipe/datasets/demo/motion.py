"""Seed, class, clip number -> positions of camera and patch in every frame, as homographies.

There are three planes: *patch* and *world*, in pixels from their centre, and *frame*, in pixels of
the image (pixel centres at whole numbers). Two stacks of 3x3 matrices determine a clip.

Every clip draws the parameters and phases of all six motions. The motion of its class advances; the
others stay at their phase. A single frame therefore has the same distribution in all classes, and
only motion tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrices = NDArray[np.float64]

CLASS_NAMES = ("bounce", "circle", "pulse", "shear", "slide", "turn")
CLIPS_PER_CLASS = 6
CAMERAS = ("static", "pan", "handheld", "handheld", "handheld", "handheld")
TEST_CLIPS = (1, 4)

FRAMES = 40
HEIGHT, WIDTH = 240, 320
FPS = 25


@dataclass(frozen=True)
class SceneTrajectory:
    """Camera and patch positions in every frame, as homographies."""

    camera: Matrices
    """(T, 3, 3), world -> frame."""
    patch: Matrices
    """(T, 3, 3), patch -> world."""

    @property
    def background(self) -> Matrices:
        """Camera motion, (T-1, 3, 3): maps a background pixel of frame k to frame k + 1."""
        return _between(self.camera)

    @property
    def foreground(self) -> Matrices:
        """Patch motion, (T-1, 3, 3): maps a patch pixel of frame k to frame k + 1."""
        return _between(self.camera @ self.patch)


def draw_trajectory(rng: np.random.Generator, class_name: str, camera: str) -> SceneTrajectory:
    """Draw the trajectories of the camera and the patch of a clip at random.

    The draws do not depend on `class_name`; it only selects which phase advances.

    Parameters
    ----------
    rng : Generator
        Source of the random numbers.
    class_name : str
        Class of the clip.
    camera : str
        Kind of camera motion.

    Returns
    -------
    SceneTrajectory
        The trajectories.
    """
    time = np.arange(FRAMES)
    advance = {name: time * (name == class_name) for name in CLASS_NAMES}
    phase = {name: rng.uniform(0, 2 * np.pi) for name in CLASS_NAMES}
    speed = {name: 2 * np.pi / rng.uniform(15, 22) for name in CLASS_NAMES}
    speed["turn"] = np.deg2rad(rng.uniform(4, 7))  # a full turn takes longer than an oscillation
    sense = {name: rng.choice((-1, 1)) for name in CLASS_NAMES}
    angle = {n: phase[n] + sense[n] * speed[n] * advance[n] for n in CLASS_NAMES}

    radius = rng.uniform(12, 16)
    x = rng.uniform(-6, 6) + rng.uniform(15, 20) * np.sin(angle["slide"])
    y = rng.uniform(-6, 6) + rng.uniform(12, 16) * np.sin(angle["bounce"])
    x = x + radius * np.cos(angle["circle"])
    y = y + radius * np.sin(angle["circle"])
    scale = np.exp(0.22 * np.sin(angle["pulse"]))
    shear = 0.45 * np.sin(angle["shear"])
    patch = _shift(x, y) @ _turn(angle["turn"]) @ _shear(shear) @ _zoom(scale)
    return SceneTrajectory(_camera(rng, camera), patch)


def _camera(rng: np.random.Generator, kind: str) -> Matrices:
    """Draw a camera trajectory: pan, hand shake, roll, slight zoom and tilt; or exactly static."""
    time = np.arange(FRAMES) - (FRAMES - 1) / 2
    fast = rng.choice((-1, 1)) * rng.uniform(2.8, 3.4)
    slow = rng.uniform(-1, 1)
    across = {"static": 0.0, "pan": fast, "handheld": slow}[kind]
    x = across * time + 1.6 * _shake(rng)
    y = rng.uniform(-0.4, 0.4) * time + 1.6 * _shake(rng)
    roll = np.deg2rad(0.9) * _shake(rng)
    zoom = np.exp(0.015 * _shake(rng))
    tilt = np.tile(np.eye(3), (FRAMES, 1, 1))
    tilt[:, 2, 0] = 2e-5 * _shake(rng)
    tilt[:, 2, 1] = 2e-5 * _shake(rng)
    centre = _shift(np.array([(WIDTH - 1) / 2]), np.array([(HEIGHT - 1) / 2]))
    path = centre @ tilt @ _turn(roll) @ _zoom(zoom) @ _shift(-x, -y)
    return np.repeat(centre, FRAMES, axis=0) if kind == "static" else path


def _shake(rng: np.random.Generator) -> Matrices:
    """Return a sum of three sines, (T,), with periods of 4 to 25 frames and amplitude about 1."""
    time = np.arange(FRAMES)[:, None]
    rate = 2 * np.pi / rng.uniform((4, 8, 14), (8, 14, 25))
    size = np.array((0.15, 0.35, 0.8))  # slow components are larger, as in hand shake
    sway: NDArray[np.float64] = np.sin(rate * time + rng.uniform(0, 2 * np.pi, 3)) @ size
    return sway


def _between(place: Matrices) -> Matrices:
    step = place[1:] @ np.linalg.inv(place[:-1])
    return step / step[:, 2:, 2:]


def _shift(x: Matrices, y: Matrices) -> Matrices:
    result = np.tile(np.eye(3), (np.broadcast(x, y).size, 1, 1))
    result[:, 0, 2], result[:, 1, 2] = x, y
    return result


def _turn(angle: Matrices) -> Matrices:
    result = np.tile(np.eye(3), (angle.size, 1, 1))
    result[:, 0, 0] = result[:, 1, 1] = np.cos(angle)
    result[:, 0, 1], result[:, 1, 0] = -np.sin(angle), np.sin(angle)
    return result


def _shear(amount: Matrices) -> Matrices:
    result = np.tile(np.eye(3), (amount.size, 1, 1))
    result[:, 0, 1] = amount
    return result


def _zoom(scale: Matrices) -> Matrices:
    result = np.tile(np.eye(3), (scale.size, 1, 1))
    result[:, 0, 0] = result[:, 1, 1] = scale
    return result
