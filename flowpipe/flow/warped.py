"""Gray frames + their flow -> WarpedFlow: the flow after the camera's motion is removed.

flow(first, second) -> camera motion H -> warped(x) = second(H x) -> flow(first, warped)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.boxes import Boxes, load_boxes
from flowpipe.flow.camera import CameraMotion, CameraMotionEstimator, WarpParams
from flowpipe.flow.features import Features

__all__ = ["Boxes", "CameraMotion", "CameraMotionEstimator", "CameraMotions", "Features"]
__all__ += ["WarpParams", "WarpedFlow", "find_motions", "load_boxes", "subtract_motion"]
__all__ += ["warp_and_solve"]


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


@dataclass(frozen=True)
class WarpedFlow(CameraMotions):
    """Warped flow of N pairs, and the camera motion that was removed."""

    flow: Any
    """float32 (N, 2, H, W) in pixels, on the device."""


def warp_and_solve(
    ops: Any,
    solver: Any,
    camera: CameraMotionEstimator,
    gray: Any,
    prepared: Any,
    flow: Any,
    features: Sequence[Features],
    start: Features | None = None,
) -> WarpedFlow:
    """Undo the camera's motion in the second frame of each pair and compute the flow again.

    The result of a pair depends on its own two frames (in mode ``dense_flow`` also on `start`),
    never on the other pairs of the call.

    Parameters
    ----------
    ops : Ops
        Backend that computes.
    solver : FlowSolver
        Solver that computed `flow`.
    camera : CameraMotionEstimator
        Estimator of the motion.
    gray : uint8 (N + 1, H, W)
        Consecutive frames.
    prepared : Prepared
        `solver.prepare(gray)`.
    flow : float32 (N, 2, H, W)
        Flow of every frame to the next.
    features : sequence of N + 1 Features
        `camera.features` of every frame.
    start : Features, optional
        Features of the video's first frame, if `WarpParams.needs_first_frame`.

    Returns
    -------
    WarpedFlow
        Flow without the camera's motion, and the motion.
    """
    pairs = len(flow)
    if len(gray) != pairs + 1 or len(features) != pairs + 1:
        raise ValueError(
            f"{pairs} fields of flow need {pairs + 1} frames and features, "
            f"got {len(gray)} and {len(features)}"
        )
    motions = find_motions(ops, camera, flow, features, start)
    warped = subtract_motion(motions, ops, solver, camera.params.margin_px, gray, prepared, flow)
    return WarpedFlow(**vars(motions), flow=warped)


def find_motions(
    ops: Any,
    camera: CameraMotionEstimator,
    flow: Any,
    features: Sequence[Features],
    start: Features | None = None,
) -> CameraMotions:
    """Estimate the camera's motion in each pair.

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
    """
    pairs = len(flow)
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
    gray: Any,
    prepared: Any,
    flow: Any,
) -> Any:
    """Compute the flow without the camera's motion.

    Parameters
    ----------
    motions : CameraMotions
        Motion of each pair.
    ops : Ops
        Backend that computes.
    solver : FlowSolver
        Solver that computed `flow`.
    margin_px : int
        `WarpParams.margin_px`.
    gray : uint8 (N + 1, H, W)
        Consecutive frames.
    prepared : Prepared
        `solver.prepare(gray)`.
    flow : float32 (N, 2, H, W)
        Flow of every frame to the next.

    Returns
    -------
    float32 (N, 2, H, W)
        Flow from each frame to the next one, from which the motion is removed.
    """
    if not len(flow):
        return flow
    warped = ops.warp_homography(gray[1:], motions.homographies, gray[:-1], margin=margin_px)
    return solver.solve(prepared[:-1], solver.prepare(warped))


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
