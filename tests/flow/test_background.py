"""A foreground on half of the frame is not taken for the camera, or the pair is flagged."""

from __future__ import annotations

import numpy as np
import pytest
from camera_scene import foreground_scene, off_background_px, warp_and_solve

from flowpipe.flow import FLOWS, make_solver
from flowpipe.flow.background import RINGS, TEXTURE_LEVELS, border_points
from flowpipe.flow.camera import CameraMotionEstimator, WarpParams
from flowpipe.ops import get_ops

OPS = get_ops("cpu")
SOLVER = make_solver(FLOWS["tvl1"].params(), OPS)
PAN, STILL = (6.0, 2.0), (0.0, 0.0)


def warp(frames, **settings):
    camera = CameraMotionEstimator(WarpParams(**settings), OPS)
    prepared = SOLVER.prepare(frames)
    flow = SOLVER.solve(prepared[:-1], prepared[1:])
    features = camera.features(frames, 0)
    return warp_and_solve(OPS, SOLVER, camera, frames, prepared, flow, features)


@pytest.mark.parametrize("camera_px", [PAN, STILL])
@pytest.mark.parametrize("texture", ["speckle", "squares", "weak"])
@pytest.mark.parametrize("shape", ["disc", "person", "two"])
def test_a_foreground_on_half_of_the_frame_is_not_the_camera(shape, texture, camera_px, rng):
    scene = foreground_scene(rng, shape, 0.5, camera_px, texture=texture)
    result = warp(scene.frames)
    assert off_background_px(result.homographies[0], scene) < 0.5
    left = np.hypot(*result.flow[0])[scene.background[0]]
    assert np.median(left) < 0.5
    # Most matches are the foreground's, so what most agree with is wrong by its whole motion.
    most = warp(scene.frames, estimator="ransac")
    assert off_background_px(most.homographies[0], scene) > 4


def test_a_camera_that_follows_the_foreground_is_seen_to_move(rng):
    scene = foreground_scene(rng, "disc", 0.5, PAN, foreground_px=(0.0, 0.0))
    assert off_background_px(warp(scene.frames).homographies[0], scene) < 0.5


@pytest.mark.parametrize("bars", [(40, 0), (0, 50)])
def test_black_bars_are_no_still_background(bars, rng):
    scene = foreground_scene(rng, "disc", 0.15, PAN)
    down, right = bars
    shown = np.zeros_like(scene.frames)
    inside = np.s_[:, down : 256 - down, right : 340 - right]
    shown[inside] = scene.frames[inside]
    result = warp(shown)
    assert off_background_px(result.homographies[0], scene) < 0.5
    assert not result.uncertain[0]


def test_motions_that_share_the_border_are_flagged(rng):
    sure = [warp(foreground_scene(rng, "disc", share, PAN).frames) for share in (0.0, 0.3)]
    assert not any(result.uncertain[0] for result in sure)
    half = warp(foreground_scene(rng, "side", 0.5, PAN).frames)
    assert half.uncertain[0]


def test_flow_that_agrees_with_nothing_is_flagged(rng):
    scene = foreground_scene(rng, "disc", 0.0, (14.0, 9.0))
    camera = CameraMotionEstimator(WarpParams(), OPS)
    features = camera.features(scene.frames, 0)
    lost = rng.uniform(-4, 4, (2, 256, 340)).astype(np.float32)
    step = lost.ravel()[camera.sample_points(*features, 256, 340)]
    (motion,) = camera.estimate(features, [step])
    assert off_background_px(motion.homography, scene) < 0.5  # keypoints know better
    assert motion.uncertain


def test_border_points_surround_the_frame_where_it_has_texture(rng):
    frames = rng.integers(0, 256, (3, 256, 340), dtype=np.uint8)
    frames[1, :, :170] = 90
    frames[2] = 90 + rng.integers(0, TEXTURE_LEVELS, (256, 340))
    whole, half, flat = border_points(OPS, frames)
    assert whole.dtype == np.float32 and 100 < len(whole) < 400
    inset = np.minimum(whole, [339, 255] - whole).min(axis=1)
    assert inset.min() > 5 and inset.max() < 12 * RINGS
    left, top = (whole < [170, 128]).mean(axis=0)
    assert 0.4 < left < 0.6 and 0.4 < top < 0.6
    assert len(half) and half[:, 0].min() > 165
    assert not len(flat)


def test_border_points_keep_out_of_the_mask(rng):
    frames = rng.integers(0, 256, (1, 60, 80), dtype=np.uint8)
    mask = np.full_like(frames, 255)
    mask[:, :, 40:] = 0
    (free,), (masked,) = border_points(OPS, frames), border_points(OPS, frames, mask)
    assert np.array_equal(masked, free[free[:, 0] < 40]) and 0 < len(masked) < len(free)


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (16, 16), (24, 30), (16, 400), (2160, 3840)])
def test_border_points_lie_in_frames_of_any_size(size, rng):
    gray = rng.integers(0, 256, (1, *size), dtype=np.uint8)
    (points,) = border_points(OPS, gray)
    assert len(points) == 0 if min(size) < 16 else len(points) > 30
    assert (points >= 0).all() and (points < [size[1], size[0]]).all()
    assert len(np.unique(points, axis=0)) == len(points), "a point is one match"


def test_the_default_is_not_that_of_dense_flow():
    assert WarpParams().estimator == "background"
    assert WarpParams(mode="dense_flow").estimator == "ransac"
