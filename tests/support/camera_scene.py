"""Homographies -> frames of a textured scene that such a camera sees, a patch moving in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.warped import CameraMotions, find_motions, subtract_motion

BORDER_PX = 80  # the scene goes on beyond the first frame


@dataclass(frozen=True)
class CameraScene:
    frames: NDArray[np.uint8]
    """(T, H, W)"""
    homographies: NDArray[np.float64]
    """(T - 1, 3, 3), frame k to frame k + 1"""
    background: NDArray[np.bool_]
    """(T, H, W), True where the patch is not"""

    def true_flow(self, pair: int) -> NDArray[np.float64]:
        """Return the displacement of the background, (2, H, W)."""
        height, width = self.frames.shape[1:]
        y, x = np.mgrid[:height, :width].astype(np.float64)
        moved = np.tensordot(self.homographies[pair], np.stack([x, y, np.ones_like(x)]), axes=1)
        return moved[:2] / moved[2] - np.stack([x, y])


def speckle(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a texture float32 (H, W), 0..255, with detail at every scale, as real scenes have."""
    picture = np.zeros((height, width), np.float32)
    for scale in (2, 4, 8, 16, 32, 64):
        small = rng.standard_normal((height // scale + 2, width // scale + 2)).astype(np.float32)
        picture += scale**0.5 * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(127 + 45 * picture / picture.std(), 0, 255)


def camera_step(
    height: int, width: int, size_px: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a homography that moves the frame by `size_px`, with some turn, zoom and tilt."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    shift = size_px * np.array([np.cos(angle), np.sin(angle)])
    bend = rng.uniform(-0.15, 0.15, (4, 2)) * size_px
    return cv2.getPerspectiveTransform(corners, (corners + shift + bend).astype(np.float32))


def film(
    rng: np.random.Generator,
    steps: list[NDArray[np.float64]],
    *,
    height: int = 256,
    width: int = 340,
    patch_px: int = 90,
    patch_step: tuple[float, float] = (3.0, -2.0),
    noise: float = 1.0,
) -> CameraScene:
    """Film a scene: `steps` move the background frame by frame; the patch moves by itself."""
    scene = speckle(height + 2 * BORDER_PX, width + 2 * BORDER_PX, rng)
    cover = speckle(height, width, rng)
    disc = np.zeros((height, width), np.float32)
    cv2.circle(disc, (width // 2, height // 2), patch_px // 2, 1.0, -1)
    into_scene = np.array([[1, 0, BORDER_PX], [0, 1, BORDER_PX], [0, 0, 1]], np.float64)
    frames, background, path = [], [], np.eye(3)
    for k in range(len(steps) + 1):
        seen = cv2.warpPerspective(
            scene, into_scene @ np.linalg.inv(path), (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        slide = np.array([[1, 0, k * patch_step[0]], [0, 1, k * patch_step[1]]], np.float64)
        shape = cv2.warpAffine(disc, slide, (width, height)) if patch_px else disc * 0
        patch = cv2.warpAffine(
            cover, slide, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        seen = seen * (1 - shape) + patch * shape + rng.normal(0, noise, seen.shape)
        frames.append(np.clip(np.rint(seen), 0, 255).astype(np.uint8))
        background.append(shape == 0)
        if k < len(steps):
            path = steps[k] @ path
    return CameraScene(np.stack(frames), np.array(steps).reshape(-1, 3, 3), np.stack(background))


def foreground_shape(shape: str, share: float, height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask (H, W) of a foreground that covers a share of the frame."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x, y = x - width / 2, y - height / 2
    if shape == "disc":
        far = np.hypot(x, y)
    elif shape == "side":
        far = x
    elif shape == "person":  # close up, cut off by the lower border
        far = np.hypot(x / 0.75, (y - height / 2) / 1.15)
    elif shape == "two":
        far = np.minimum(np.hypot(x + width * 0.23, y), np.hypot(x - width * 0.25, y))
    else:
        raise ValueError(f"no shape {shape}")
    return far < np.quantile(far, share)


def background_texture(
    kind: str, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a texture of the background, float32 (H, W), 0..255."""
    if kind == "speckle":
        return speckle(height, width, rng)
    if kind == "squares":
        picture = np.full((height, width), 127, np.float32)
        for _ in range(height * width // 900):
            x, y, wide, high = rng.integers([0, 0, 8, 8], [width, height, 60, 60]).tolist()
            cv2.rectangle(picture, (x, y), (x + wide, y + high), rng.uniform(20, 235), -1)
        return cv2.GaussianBlur(picture, (0, 0), 0.7)
    if kind == "weak":  # a wall with few marks on it: nearly all corners are elsewhere
        wall = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 12)
        picture = 127 + 25 * wall / wall.std()
        for _ in range(25):
            x, y, side = rng.integers([0, 0, 4], [width, height, 14]).tolist()
            cv2.rectangle(picture, (x, y), (x + side, y + side), rng.uniform(60, 200), -1)
        return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.8), 0, 255)
    raise ValueError(f"no texture {kind}")


def foreground_scene(
    rng: np.random.Generator,
    shape: str,
    share: float,
    camera_px: tuple[float, float],
    *,
    foreground_px: tuple[float, float] = (-4.0, -3.0),
    texture: str = "speckle",
    pictures: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    noise: float = 2.0,
    height: int = 256,
    width: int = 340,
) -> CameraScene:
    """Render a pair: the camera moves the background, and a large foreground moves by itself.

    `pictures` (H, W) of background and foreground take the place of the texture.
    """
    size = height + 2 * BORDER_PX, width + 2 * BORDER_PX
    if pictures is None:
        scene = background_texture(texture, *size, rng)
        cover = background_texture("speckle" if texture == "weak" else texture, *size, rng)
    else:
        scene, cover = (cv2.resize(picture, size[::-1]) for picture in pictures)
    mask = foreground_shape(shape, share, height, width).astype(np.float32)
    mask = cv2.copyMakeBorder(mask, *[BORDER_PX] * 4, cv2.BORDER_REPLICATE)

    def view(picture: NDArray[np.float32], step: tuple[float, float]) -> NDArray[np.float32]:
        place = np.array([[1, 0, BORDER_PX - step[0]], [0, 1, BORDER_PX - step[1]]])
        how = cv2.INTER_CUBIC if picture is not mask else cv2.INTER_LINEAR
        return cv2.warpAffine(picture, place, (width, height), flags=how | cv2.WARP_INVERSE_MAP)

    frames, background = [], []
    for k in range(2):
        camera, own = ((k * x, k * y) for x, y in (camera_px, foreground_px))
        covered = view(mask, own)
        frame = view(scene, camera) * (1 - covered) + view(cover, own) * covered
        frame += rng.normal(0, noise, frame.shape)
        frames.append(np.clip(np.rint(frame), 0, 255).astype(np.uint8))
        background.append(covered == 0)
    step = np.eye(3)
    step[:2, 2] = camera_px
    return CameraScene(np.stack(frames), step[None], np.stack(background))


def off_background_px(found: NDArray[np.float64], scene: CameraScene) -> float:
    """Return the mean error of a camera motion over the background of the first pair, pixels."""
    wrong = CameraScene(scene.frames, found[None], scene.background)
    return float(np.hypot(*(wrong.true_flow(0) - scene.true_flow(0)))[scene.background[0]].mean())


def corner_error_px(found: NDArray[np.float64], true: NDArray[np.float64], shape: tuple) -> float:
    """Return the mean distance of the four corners of the frame under two homographies, pixels."""
    height, width = shape[-2:]
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    there = [cv2.perspectiveTransform(corners, h) for h in (found, true)]
    return float(np.linalg.norm(there[0] - there[1], axis=-1).mean())


@dataclass(frozen=True)
class WarpedFlow(CameraMotions):
    """The camera's motion in N pairs, and their flow without it: float32 (N, 2, H, W)."""

    flow: Any


def warp_and_solve(
    ops: Any, solver: Any, camera: Any, gray: Any, prepared: Any, flow: Any, features: Any,
    start: Any = None,
) -> WarpedFlow:  # fmt: skip
    """Find and subtract the camera's motion, as an extraction does in two steps."""
    motions = find_motions(ops, camera, flow, features, start)
    margin_px = camera.params.margin_px
    warped = subtract_motion(
        motions, ops, solver, margin_px, frames=gray, prepared=prepared, flow=flow
    )
    return WarpedFlow(**vars(motions), flow=warped)
