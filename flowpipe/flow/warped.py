"""Gray frames + their flow -> CameraMotions, and the flow without the camera's motion.

flow(first, second) -> camera motion H -> warped(x) = second(H x) -> flow(first, warped)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.boxes import load_boxes
from flowpipe.flow.camera import CameraMotionEstimator, WarpParams
from flowpipe.flow.features import Features

__all__ = ["CameraMotionEstimator", "CameraMotions", "Features", "WarpParams", "find_motions"]
__all__ += ["load_boxes", "subtract_motion"]


@dataclass(frozen=True)
class CameraMotions:
    """Camera motion of N consecutive pairs."""

    homographies: NDArray[np.float64]
    """(N, 3, 3), first frame to second; the identity where no motion was accepted."""
    matches: NDArray[np.uint32]
    """Number of matches per pair, (N,)."""
    inliers: NDArray[np.uint32]
    """Number of inliers per pair, (N,)."""
    uncertain: NDArray[np.bool_]
    """(N,): True if the homography may be the foreground's; see `CameraMotion`."""


def find_motions(
    ops: Any,
    camera: CameraMotionEstimator,
    flow: Any,
    features: Sequence[Features],
    start: Features | None = None,
) -> CameraMotions:
    """Estimate the camera's motion in each pair.

    The result of a pair depends on its own two frames (in mode ``dense_flow`` also on `start`),
    never on the other pairs of the call.

    Parameters
    ----------
    ops : Ops
        Backend that computes.
    camera : CameraMotionEstimator
        Estimator of the motion.
    flow : float32 (N, 2, H, W)
        Flow of every frame to the next.
    features : sequence of N + 1 Features
        `camera.features` of every frame.
    start : Features, optional
        Features of the video's first frame, if `WarpParams.needs_first_frame`.

    Returns
    -------
    CameraMotions
        Motion of each pair.

    Raises
    ------
    ValueError
        If the counts of flow fields and features do not fit.
    """
    pairs = len(flow)
    if len(features) != pairs + 1:
        raise ValueError(
            f"{pairs} fields of flow need features of {pairs + 1} frames, got {len(features)}"
        )
    places = [camera.sample_points(*pair, *flow.shape[2:]) for pair in pairwise(features)]
    steps = sample_flow(ops, flow, places)
    found = camera.estimate(features, steps, start)
    return CameraMotions(
        np.array([m.homography for m in found], np.float64).reshape(pairs, 3, 3),
        np.array([m.matches for m in found], np.uint32),
        np.array([m.inliers for m in found], np.uint32),
        np.array([m.uncertain for m in found], np.bool_),
    )


def subtract_motion(
    motions: CameraMotions,
    ops: Any,
    solver: Any,
    margin_px: int,
    *,
    frames: Any,
    prepared: Any,
    flow: Any,
) -> Any:
    """Warp each second frame back by the camera's motion and compute the flow again.

    Parameters
    ----------
    motions : CameraMotions
        Result of `find_motions`.
    ops : Ops
        Backend that computes.
    solver : FlowSolver
        Solver that computed `flow`.
    margin_px : int
        `WarpParams.margin_px`.
    frames : uint8 (N + 1, H, W) or (N + 1, H, W, 3)
        Consecutive frames, gray or RGB as the solver takes them.
    prepared : Prepared
        `solver.prepare(frames)`.
    flow : float32 (N, 2, H, W)
        Flow of every frame to the next.

    Returns
    -------
    float32 (N, 2, H, W)
        Flow without the camera's motion, pixels, on the device.
    """
    if not len(flow):
        return flow
    warp = partial(_warp, ops, motions.homographies, margin_px)
    if frames.ndim == 3:
        warped = warp(frames)
    else:
        planes = np.ascontiguousarray(ops.to_host(frames).transpose(3, 0, 1, 2))
        warped = np.stack([ops.to_host(warp(plane)) for plane in planes], axis=-1)
    return solver.solve(prepared[:-1], solver.prepare(warped))


def _warp(ops: Any, homographies: NDArray[np.float64], margin_px: int, frames: Any) -> Any:
    """Warp each second frame of (N + 1, H, W) to its first one, (N, H, W)."""
    return ops.warp_homography(frames[1:], homographies, frames[:-1], margin=margin_px)


def sample_flow(
    ops: Any, flow: Any, places: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.float32]]:
    """Read the flow of each pair at some points, in one read from the device.

    Parameters
    ----------
    ops : Ops
        Backend that holds the flow.
    flow : float32 (N, 2, H, W)
        Flow of each pair.
    places : sequence of N int64 (C, 2)
        Flat indices of the flow (2, H, W) of each pair.

    Returns
    -------
    list of N float32 (C, 2)
        Flow at the points, pixels.
    """
    if not places:
        return []
    size = 2 * flow.shape[2] * flow.shape[3]
    flat = np.concatenate([place.ravel() + k * size for k, place in enumerate(places)])
    taken = ops.take(flow, flat)
    ends = np.cumsum([place.size for place in places])
    return [
        part.reshape(place.shape)
        for part, place in zip(np.split(taken, ends[:-1]), places, strict=True)
    ]
