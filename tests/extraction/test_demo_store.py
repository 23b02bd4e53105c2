"""Demo clips through `flowpipe extract`; what the store then holds, against the known truth.

All distances are in pixels of the stored size, 340x256, which is a sixteenth larger than the clips.

A level of the quantiser is 2 * 20 / 255 = 0.157 px and no level stands for zero: the nearest two
are -0.078 and +0.078. So a pixel at rest reads as hypot(0.078, 0.078) = 0.111 px from any store.
That is the floor of every length below, and why a tenfold fall of a background's flow can show in
the stored bytes of a fast pan only; on the slower handheld camera the solver's own output is
measured, and the bytes are shown to be that output.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import pytest
from camera_scene import corner_error_px, warp_and_solve
from command import command

from flowpipe import open_store, params
from flowpipe.datasets import demo
from flowpipe.datasets.demo.clipfile import write_clip
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow import make_solver
from flowpipe.flow.warped import CameraMotionEstimator
from flowpipe.ops import get_ops
from flowpipe.store import Store
from flowpipe.video import open_video

CLIPS = {"slide_00": "static", "shear_01": "pan", "turn_02": "handheld"}
HEIGHT, WIDTH, FRAMES = 256, 340, 40
PAIRS = FRAMES - 1
FLOOR_PX = float(np.hypot(20 / 255, 20 / 255))
SCALE = np.array([WIDTH / 320, HEIGHT / 240])
TO_STORED = np.array(  # pixel centres of a clip -> of its stored images, as resizing places them
    [[SCALE[0], 0, (SCALE[0] - 1) / 2], [0, SCALE[1], (SCALE[1] - 1) / 2], [0, 0, 1]]
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three clips, all modalities, extracted as a user would."""
    folder = tmp_path_factory.mktemp("truth")
    with (folder / "list.csv").open("w") as lines:
        lines.write("video_id,path,label,split\n")
        for video_id in CLIPS:
            write_clip(folder / f"{video_id}.mp4", demo.clean_frames(video_id))
            lines.write(f"{video_id},{video_id}.mp4,{video_id[:-3]},train1\n")
    done = subprocess.run(
        command(
            "extract", "--videos", folder / "list.csv", "--recipe", "demo",
            "--out", folder / "store", "--workers", 1, "--quiet", "--verify",
        ),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return open_store(folder / "store")


@dataclass(frozen=True)
class Scaled:
    """The truth about a clip at the stored size."""

    video_id: str

    @cached_property
    def _truth(self):
        return demo.ground_truth(self.video_id)

    @cached_property
    def flow(self):
        """(39, 2, H, W)"""
        flow = [[_enlarge(plane) for plane in field] for field in self._truth.flow]
        return np.array(flow) * SCALE.astype(np.float32)[:, None, None]

    @cached_property
    def homography(self):
        return TO_STORED @ self._truth.homography @ np.linalg.inv(TO_STORED)

    @cached_property
    def background(self):
        """(39, H, W): pixels made of nothing but observable background."""
        return self._only(~self._truth.foreground)

    @cached_property
    def patch(self):
        return self._only(self._truth.foreground)

    def _only(self, where):
        masks = (self._truth.valid & where).astype(np.float32)
        return np.array([_enlarge(mask) > 0.999 for mask in masks])


def _enlarge(plane):
    return cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope="module")
def truths() -> dict[str, Scaled]:
    return {video_id: Scaled(video_id) for video_id in CLIPS}


def lengths(flow, masks):
    """Mean length of a flow inside the mask of each pair, px."""
    return np.array(
        [np.hypot(*field)[mask].mean() for field, mask in zip(flow, masks, strict=True)]
    )


def read_images(store, video_id, modality):
    return store.values(video_id, modality, 0, PAIRS)


# -- flow


@pytest.mark.parametrize("video_id", CLIPS)
def test_stored_flow_is_the_true_flow(store, truths, video_id):
    truth = truths[video_id]
    error = read_images(store, video_id, "flow") - truth.flow
    # Measured 0.12, 0.10, 0.10: the quantiser's 0.06 to 0.11 and hardly anything else.
    assert lengths(error, truth.background).mean() < 0.15
    assert lengths(error, truth.background).max() < 0.25
    # Measured 0.12, 0.15, 0.34. The patch is some 80 px wide, so all of it lies near its rim, where
    # the total variation draws the flow towards the background's; worst where it turns, 4 to 7
    # degrees a frame and up to 5 px.
    assert lengths(error, truth.patch).mean() < 0.45
    assert lengths(error, truth.patch).mean() < 0.12 * lengths(truth.flow, truth.patch).mean()


@pytest.mark.parametrize("video_id", CLIPS)
def test_image_k_belongs_to_frames_k_and_k_plus_1(store, truths, video_id):
    truth, flow = truths[video_id], read_images(store, video_id, "flow")

    def error(shift):
        """Mean error if image k showed the pair k + shift."""
        pairs = np.arange(1, PAIRS - 1)
        masks = truth.patch[pairs] & truth.patch[pairs + shift]
        return lengths(flow[pairs] - truth.flow[pairs + shift], masks).mean()

    assert error(0) < 0.75 * min(error(-1), error(1))


# -- camera motion


@pytest.mark.parametrize("video_id", CLIPS)
def test_stored_homographies_are_the_true_ones(store, truths, video_id):
    found = store.column(video_id, "warped_flow", "homography")
    error = [
        corner_error_px(one, true, (HEIGHT, WIDTH))
        for one, true in zip(found, truths[video_id].homography, strict=True)
    ]
    # Measured 0.03 to 0.05 in the mean of the pairs and 0.19 for the worst.
    assert np.mean(error) < 0.1
    assert np.max(error) < 0.3
    inliers = store.column(video_id, "warped_flow", "inliers")
    assert inliers.min() > 25  # every motion was accepted


def test_a_pan_leaves_the_background_of_the_stored_bytes(store, truths):
    truth = truths["shear_01"]
    before, after = (
        lengths(read_images(store, "shear_01", m), truth.background)
        for m in ("flow", "warped_flow")
    )
    assert (before > 10 * after).all()  # measured 29 times in the mean
    assert after.max() < FLOOR_PX + 0.05


def test_on_a_static_camera_warped_flow_is_flow(store, truths):
    plain, warped = (read_images(store, "slide_00", m) for m in ("flow", "warped_flow"))
    level = 40 / 255
    assert np.abs(plain - warped).mean() < 0.25 * level  # measured 0.11 of a level
    assert (np.abs(plain - warped) < 1.5 * level).mean() > 0.98
    for flow in (plain, warped):
        assert lengths(flow, truths["slide_00"].background).max() < FLOOR_PX + 0.05


@pytest.mark.parametrize("video_id", ["shear_01", "turn_02"])
def test_the_solver_s_own_background_flow_falls_tenfold(store, truths, video_id):
    """A window in the middle of a clip, computed again: the floats behind the stored bytes."""
    first, pairs = 12, 8
    made = params.build(ExtractRecipe, store.header.recipe)
    ops = get_ops("cpu")
    solver, camera = make_solver(made.flow, ops), CameraMotionEstimator(made.warp, ops)
    gray = ops.gray(source_frames(store, video_id)[first : first + pairs + 1])
    features = camera.features(gray, first)
    prepared = solver.prepare(gray)
    plain = solver.solve(prepared[:-1], prepared[1:])
    warped = warp_and_solve(ops, solver, camera, gray, prepared, plain, features)

    homographies = store.column(video_id, "warped_flow", "homography")[first : first + pairs]
    np.testing.assert_array_equal(warped.homographies, homographies)
    for modality, flow in (("flow", plain), ("warped_flow", warped.flow)):
        levels, _ = ops.quantise(flow, made.bound)
        kept = store.snippet(video_id, modality, first, pairs)
        # JPEG at quality 95 moves a level by less than one in the mean.
        assert np.abs(levels.astype(int) - kept).mean() < 1

    background = truths[video_id].background[first : first + pairs]
    before, after = lengths(plain, background), lengths(warped.flow, background)
    assert before.mean() > 10 * after.mean()
    assert after.max() < 0.1


@pytest.mark.parametrize("video_id", CLIPS)
def test_the_patch_keeps_its_own_motion(store, truths, video_id):
    """Warped flow shows where the patch goes, seen from the background."""
    truth = truths[video_id]
    relative = np.stack([against(*pair) for pair in zip(truth.flow, truth.homography, strict=True)])
    error = read_images(store, video_id, "warped_flow") - relative
    # Measured as for plain flow.
    assert lengths(error, truth.patch).mean() < 0.45


def against(flow, homography):
    """Flow less the camera's motion: where a pixel lands, brought back through the homography."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    landed = np.stack([x + flow[0], y + flow[1], np.ones_like(x)]).reshape(3, -1)
    back = np.linalg.inv(homography) @ landed
    return (back[:2] / back[2]).reshape(2, HEIGHT, WIDTH) - np.stack([x, y])


# -- frames and differences


def source_frames(store, video_id):
    """Frames of the video file, resized as an extraction does: uint8 (40, H, W, 3)."""
    with open_video(store.videos[video_id].meta["record"]["path"]) as video:
        frames = np.concatenate([window.data for window in video.windows()])
    return get_ops("cpu").resize(frames, HEIGHT, WIDTH)


@pytest.mark.parametrize("video_id", CLIPS)
def test_frames_and_differences_are_those_of_the_file(store, video_id):
    frames = source_frames(store, video_id)
    video = store.videos[video_id]
    assert video.images == {"rgb": 40, "flow": 39, "warped_flow": 39, "rgb_diff": 39}
    np.testing.assert_allclose(video.pts_s - video.pts_s[0], np.arange(FRAMES) / 25, atol=1e-6)

    rgb = store.snippet(video_id, "rgb", 0, FRAMES).astype(int)
    source = frames.transpose(0, 3, 1, 2).astype(int)
    # Quality 95 with the colour at half the size; each frame nearest to its own source, even
    # where all but stands still.
    assert np.abs(rgb - source).mean() < 3
    own, next_ = (np.abs(rgb[:-1] - other).mean((1, 2, 3)) for other in (source[:-1], source[1:]))
    assert (own < next_).all()

    true = np.clip(np.diff(source, axis=0), -128, 127)
    kept = store.values(video_id, "rgb_diff", 0, PAIRS)
    # Quality 95 with all colour kept.
    assert np.abs(kept - true).mean() < 2
    assert np.abs(kept[1:] - true[:-1]).mean() > 2 * np.abs(kept[1:] - true[1:]).mean()
    clipped = store.column(video_id, "rgb_diff", "clipped")
    overflow = (np.diff(source, axis=0) > 127) | (np.diff(source, axis=0) < -128)
    np.testing.assert_array_equal(clipped, overflow.sum((1, 2, 3)))


@pytest.mark.parametrize("video_id", CLIPS)
def test_stored_frames_are_those_of_the_scene(store, video_id):
    """Decoded, resized and coded twice, frame k is still nearest to what was drawn for k."""
    drawn = np.stack(list(demo.clean_frames(video_id)))
    drawn = get_ops("cpu").resize(drawn, HEIGHT, WIDTH).transpose(0, 3, 1, 2).astype(int)
    rgb = store.snippet(video_id, "rgb", 0, FRAMES)
    for k in (1, 20, 38):
        error = [np.abs(drawn[near] - rgb[k]).mean() for near in (k - 1, k, k + 1)]
        assert error[1] < 6 and np.argmin(error) == 1
