"""Warped flow: the camera's motion is removed, other motion stays, and pairs are independent."""

from __future__ import annotations

import numpy as np
import pytest
from camera_scene import camera_step, corner_error_px, film, warp_and_solve

from flowpipe.datasets import demo
from flowpipe.flow import FLOWS, make_solver
from flowpipe.flow.boxes import Boxes
from flowpipe.flow.warped import CameraMotionEstimator, WarpParams, find_motions
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.video import open_video

SIZE = {"height": 128, "width": 160, "patch_px": 50}


class Stage:
    """The stages before and around warped flow, as an extraction runs them."""

    def __init__(self, params=None, flow="tvl1", boxes=None, device="reference"):
        self.ops = get_ops(device)
        self.solver = make_solver(FLOWS[flow].params(), self.ops)
        self.camera = CameraMotionEstimator(params or WarpParams(), self.ops, boxes)

    def run(self, gray, first_frame=0, start=None):
        features = self.camera.features(gray, first_frame)
        prepared = self.solver.prepare(gray)
        flow = self.solver.solve(prepared[:-1], prepared[1:])
        return flow, warp_and_solve(
            self.ops, self.solver, self.camera, gray, prepared, flow, features, start
        )


def mean_length(flow, where):
    return float(np.hypot(*flow)[where].mean())


@pytest.mark.parametrize("size_px", [2.0, 6.0, 10.0])
def test_background_flow_falls_tenfold_and_the_patch_keeps_its_flow(size_px, rng):
    scene = film(rng, [camera_step(128, 160, size_px, rng) for _ in range(2)], **SIZE)
    plain, warped = Stage().run(scene.frames)
    for pair in range(2):
        background = scene.background[pair] & scene.background[pair + 1]
        before, after = (mean_length(f[pair], background) for f in (plain, warped.flow))
        assert before > 10 * after
        found, true = warped.homographies[pair], scene.homographies[pair]
        assert corner_error_px(found, true, (128, 160)) < 0.3
        # The patch moved by (3, -2) in the frame: its flow against the background's is left.
        y, x = np.argwhere(~scene.background[pair]).mean(axis=0)
        landed = np.linalg.inv(true) @ [x + 3, y - 2, 1]
        own = landed[:2] / landed[2] - [x, y]
        middle = warped.flow[pair][:, int(y) - 8 : int(y) + 8, int(x) - 8 : int(x) + 8]
        off = np.median(middle, axis=(1, 2)) - own
        assert np.hypot(*off) < 0.3 + 0.1 * np.hypot(*own)


def test_static_camera_changes_nothing(rng):
    scene = film(rng, [np.eye(3)] * 2, **SIZE)
    plain, warped = Stage().run(scene.frames)
    for pair in range(2):
        assert corner_error_px(warped.homographies[pair], np.eye(3), (128, 160)) < 0.1
    # Measured 0.006 to 0.007 px; a level of the quantiser is 0.157 px.
    assert np.abs(plain - warped.flow).mean() < 0.02


def test_pixels_from_outside_have_no_motion(rng):
    shift = np.array([[1, 0, 12.0], [0, 1, 0], [0, 0, 1]])
    scene = film(rng, [shift], height=128, width=160, patch_px=0, noise=0)
    _, warped = Stage().run(scene.frames)
    # Columns right of 160 - 12 - 5 lie outside, or too near the border, of the second frame.
    assert np.abs(warped.flow[0][:, 16:-16, -10:]).max() < 0.25
    assert np.abs(warped.flow[0][:, 16:-16, 16:-32]).mean() < 0.1


@pytest.mark.parametrize("mode", ["fixed", "dense_flow"])
def test_a_pair_is_the_same_in_every_window(mode, rng):
    scene = film(rng, [camera_step(96, 120, 3.0, rng) for _ in range(4)], height=96, width=120,
                 patch_px=30)  # fmt: skip
    stage = Stage(WarpParams(mode=mode), flow="dis")
    [start] = stage.camera.features(scene.frames[:1], 0)
    _, whole = stage.run(scene.frames, start=start)
    for begin, end in ((0, 2), (1, 3), (2, 5), (3, 5)):
        _, part = Stage(WarpParams(mode=mode), flow="dis").run(
            scene.frames[begin:end], first_frame=begin, start=start
        )
        for field in ("flow", "homographies", "matches", "inliers", "uncertain"):
            expected = getattr(whole, field)[begin : end - 1]
            assert getattr(part, field).tobytes() == expected.tobytes(), field


def test_boxes_keep_a_large_person_from_being_taken_for_the_camera(rng):
    # The patch covers most of the frame: without boxes most matches are its own.
    scene = film(rng, [camera_step(128, 160, 5.0, rng)], height=128, width=160, patch_px=126)
    person = np.array([[80.0 - 66, 0, 80 + 70, 127]])
    most, boxes = WarpParams(estimator="ransac"), Boxes("x", (person, person), 128, 160)
    masked = Stage(most, flow="dis", boxes=boxes).run(scene.frames)[1]
    unmasked = Stage(most, flow="dis").run(scene.frames)[1]
    error = [
        corner_error_px(w.homographies[0], scene.homographies[0], (128, 160))
        for w in (masked, unmasked)
    ]
    assert error[0] < 0.5 < 3 < error[1]
    assert masked.matches[0] < unmasked.matches[0]


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 18), (40, 33)])
def test_frames_of_any_content_have_warped_flow(size, rng):
    frames = rng.integers(0, 256, (4, *size), dtype=np.uint8)
    frames[2] = 77
    plain, warped = Stage().run(frames)
    assert warped.flow.shape == plain.shape == (3, 2, *size)
    assert np.isfinite(warped.flow).all() and warped.homographies.shape == (3, 3, 3)
    assert warped.matches.dtype == warped.inliers.dtype == np.uint32


def test_one_frame_makes_no_pair(rng):
    plain, warped = Stage().run(rng.integers(0, 256, (1, 40, 50), dtype=np.uint8))
    assert warped.flow.shape == (0, 2, 40, 50)
    assert warped.homographies.shape == (0, 3, 3) and warped.matches.shape == (0,)


def test_counts_that_do_not_fit_are_refused(rng):
    stage = Stage(flow="dis")
    gray = rng.integers(0, 256, (2, 40, 50), dtype=np.uint8)
    features = stage.camera.features(gray, 0)
    with pytest.raises(ValueError, match="2 fields of flow need features of 3 frames, got 2"):
        find_motions(stage.ops, stage.camera, np.zeros((2, 2, 40, 50), np.float32), features)


@pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")
@pytest.mark.parametrize("video_id", ["shear_01", "bounce_02", "slide_00"])
def test_the_camera_is_removed_from_demo_clips(video_id):
    frames = np.stack(list(demo.clean_frames(video_id, numbers=range(3))))
    truth = demo.ground_truth(video_id)
    stage = Stage(device="cpu")
    plain, warped = stage.run(stage.ops.gray(frames))
    for pair in range(2):
        found, true = warped.homographies[pair], truth.homography[pair]
        assert corner_error_px(found, true, frames.shape[:3]) < 0.15
        background = truth.valid[pair] & ~truth.foreground[pair]
        before, after = (mean_length(f[pair], background) for f in (plain, warped.flow))
        if video_id.endswith("_00"):  # its camera stands still
            assert np.abs(plain[pair] - warped.flow[pair]).mean() < 0.01
        else:
            assert before > 10 * after


def run_clip(shared_data, name):
    path = shared_data / "clips" / "ucf101" / name
    stage = Stage(flow="dis")
    with open_video(str(path)) as video:
        frames = next(iter(video.windows(max_frames=9))).data
    return stage.run(stage.ops.gray(frames))


def test_warped_flow_of_a_real_clip_from_a_still_camera_is_its_flow(shared_data):
    plain, warped = run_clip(shared_data, "SoccerJuggling/v_SoccerJuggling_g24_c01.avi")
    # Measured 0.018 px; a level of the quantiser is 0.157 px.
    assert np.abs(plain - warped.flow).mean() < 0.04


def test_a_camera_that_follows_a_diver_is_removed_from_a_real_clip(shared_data):
    plain, warped = run_clip(shared_data, "Diving/v_Diving_g01_c03.avi")
    before, after = (np.median(np.hypot(f[:, 0], f[:, 1])) for f in (plain, warped.flow))
    assert before > 1.5 and after < before / 4
