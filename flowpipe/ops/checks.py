"""Arguments of an operation -> ValueError with the wanted and the given shape and dtype."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.feature_protocol import Keypoints


def check_frames(frames: NDArray[np.uint8]) -> None:
    """Raise ValueError unless an array holds frames of at least one pixel.

    Parameters
    ----------
    frames : uint8 (N, H, W, 3)
        Array to check.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames must be uint8 (N, H, W, 3), got {frames.dtype} {frames.shape}")
    _check_pixels("frames", frames.shape[1:3])


def check_gray(gray: NDArray[np.uint8], what: str = "gray") -> None:
    """Raise ValueError unless an array holds images of at least one pixel.

    Parameters
    ----------
    gray : uint8 (N, H, W)
        Array to check.
    what : str
        What it is, for the message.
    """
    if gray.dtype != np.uint8 or gray.ndim != 3:
        raise ValueError(f"{what} must be uint8 (N, H, W), got {gray.dtype} {gray.shape}")
    _check_pixels(what, gray.shape[1:])


def check_flow(flow: NDArray[np.float32], bound: float) -> None:
    """Raise ValueError unless flow can be quantised.

    Parameters
    ----------
    flow : float32 (N, 2, H, W)
        Array to check.
    bound : float
        Largest displacement, pixels; positive and finite.
    """
    if flow.dtype != np.float32 or flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow must be float32 (N, 2, H, W), got {flow.dtype} {flow.shape}")
    if not 0 < bound < float("inf"):
        raise ValueError(f"bound must be a positive number of pixels, got {bound}")


def check_warp(
    gray: NDArray[np.uint8],
    homography: NDArray[np.float64],
    fill: NDArray[np.uint8],
    margin: int,
) -> None:
    """Raise ValueError unless images can be warped.

    Parameters
    ----------
    gray : uint8 (N, H, W)
        Images.
    homography : float64 (N, 3, 3)
        Homographies.
    fill : uint8 (N, H, W)
        Images of the same shape.
    margin : int
        Not negative, pixels.
    """
    check_gray(gray)
    check_gray(fill, "fill")
    if fill.shape != gray.shape:
        raise ValueError(f"fill must have the shape of gray, {gray.shape}, got {fill.shape}")
    if homography.shape != (len(gray), 3, 3) or homography.dtype != np.float64:
        raise ValueError(
            f"homography must be float64 ({len(gray)}, 3, 3), "
            f"got {homography.dtype} {homography.shape}"
        )
    if margin < 0:
        raise ValueError(f"margin must be at least 0 pixels, got {margin}")


def check_mask(mask: NDArray[np.uint8], gray: NDArray[np.uint8]) -> None:
    """Raise ValueError unless a mask has the shape of the images.

    Parameters
    ----------
    mask : uint8 (N, H, W)
        Mask to check.
    gray : uint8 (N, H, W)
        Images.
    """
    if mask.dtype != np.uint8 or mask.shape != gray.shape:
        raise ValueError(
            f"mask must be uint8 {gray.shape}, as the images, got {mask.dtype} {mask.shape}"
        )


def check_keypoints(first: Keypoints, second: Keypoints) -> None:
    """Raise ValueError unless the keypoints of two frames can be matched.

    Parameters
    ----------
    first, second : Keypoints
        Points float32 (K, 2), and descriptors of one kind.
    """
    for points, descriptors in ((k.points, k.descriptors) for k in (first, second)):
        if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be float32 (K, 2), got {points.dtype} {points.shape}")
        if len(points) and (descriptors.ndim != 2 or len(descriptors) != len(points)):
            raise ValueError(
                f"descriptors must be (K, B) with K = {len(points)}, as points are, "
                f"got {descriptors.shape}"
            )
    kinds = [(k.descriptors.dtype, k.descriptors.shape[1:]) for k in (first, second)]
    if len(first.points) and len(second.points) and kinds[0] != kinds[1]:
        raise ValueError(f"descriptors of both frames must be of one kind, got {kinds}")


def check_matches(in_first: NDArray[np.float32], in_second: NDArray[np.float32]) -> None:
    """Raise ValueError unless matches are finite and of equal number.

    Parameters
    ----------
    in_first, in_second : float32 (M, 2)
        Matched points, pixels.
    """
    for points in (in_first, in_second):
        if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"matches must be float32 (M, 2), got {points.dtype} {points.shape}")
    if len(in_first) != len(in_second):
        raise ValueError(f"{len(in_first)} points of one frame match {len(in_second)} of another")
    if not np.isfinite([in_first, in_second]).all():
        raise ValueError("matches must be finite")


def _check_pixels(what: str, size: tuple[int, ...]) -> None:
    if min(size) < 1:
        raise ValueError(
            f"{what} must have at least one pixel, got {size[0]} rows, {size[1]} columns"
        )
