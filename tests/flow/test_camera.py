"""Camera motion: accuracy on scenes of known motion, thresholds, and frames without features."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from camera_scene import camera_step, corner_error_px, film

from flowpipe.flow.camera import (
    CameraMotion,
    CameraMotionEstimator,
    WarpParams,
    flow_sample_points,
    match_along_flow,
)
from flowpipe.flow.features import DETECTORS, Features, match_in_window
from flowpipe.ops import get_ops

CPU = get_ops("cpu")


def camera_motion(**settings):
    return CameraMotionEstimator(WarpParams(**settings), CPU)


def exact_flow(scene, pair):
    """The background's true flow, and the patch's own step where the patch is."""
    flow = scene.true_flow(pair).astype(np.float32)
    flow[:, ~scene.background[pair]] = np.array([[3.0], [-2.0]], np.float32)
    return flow


def estimate(camera, first, second, flow, start=None):
    step = flow.ravel()[camera.sample_points(first, second, *flow.shape[1:])]
    return camera.estimate([first, second], [step], start)[0]


def find(camera, scene, pair, flow=None):
    first, second = camera.features(scene.frames[pair : pair + 2], pair)
    return estimate(camera, first, second, exact_flow(scene, pair) if flow is None else flow)


@pytest.mark.parametrize("size_px", [1.0, 6.0, 15.0])
def test_a_known_motion_is_found_under_a_moving_patch(size_px, rng):
    scene = film(rng, [camera_step(256, 340, size_px, rng) for _ in range(2)])
    camera = camera_motion()
    for pair in range(2):
        motion = find(camera, scene, pair)
        assert (motion.homography != np.eye(3)).any()
        assert motion.matches > 1000 and motion.inliers > 0.6 * motion.matches
        # Measured 0.03 to 0.13 px.
        assert corner_error_px(motion.homography, scene.homographies[pair], (256, 340)) < 0.3


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("estimator", ["background", "ransac", "magsac"])
def test_every_detector_and_estimator_finds_the_motion(detector, estimator, rng):
    scene = film(rng, [camera_step(256, 340, 8.0, rng)])
    motion = find(camera_motion(detector=detector, estimator=estimator), scene, 0)
    assert corner_error_px(motion.homography, scene.homographies[0], (256, 340)) < 1.0


@pytest.mark.parametrize("detector", ["akaze", "sift"])
def test_descriptors_alone_find_a_motion_that_the_flow_missed(detector, rng):
    scene = film(rng, [camera_step(256, 340, 20.0, rng)])
    lost = rng.uniform(-4, 4, (2, 256, 340)).astype(np.float32)
    motion = find(camera_motion(detector=detector), scene, 0, lost)
    assert corner_error_px(motion.homography, scene.homographies[0], (256, 340)) < 1.0


@pytest.fixture
def opencv_threads():
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("estimator", ["background", "ransac", "magsac"])
def test_same_pair_same_motion_whatever_came_before(detector, estimator, rng, opencv_threads):
    scene = film(rng, [camera_step(128, 160, 4.0, rng) for _ in range(3)], height=128, width=160)
    params = WarpParams(detector=detector, estimator=estimator)
    camera = CameraMotionEstimator(params, CPU)
    cv2.setRNGSeed(7)
    cv2.setNumThreads(1)
    last = [find(camera, scene, pair) for pair in range(3)][-1]
    for threads in (1, 2, 4):
        cv2.setNumThreads(threads)
        cv2.setRNGSeed(threads)
        alone = find(CameraMotionEstimator(params, CPU), scene, 2)
        assert alone.homography.tobytes() == last.homography.tobytes()
        assert (alone.matches, alone.inliers) == (last.matches, last.inliers)


@pytest.mark.parametrize("estimator", ["background", "ransac"])
def test_thresholds_are_strict(estimator, rng):
    params = WarpParams(min_matches=50, min_inliers=25, estimator=estimator)
    nothing = Features(np.empty((0, 2), np.float32), np.empty((0, 0), np.uint64), None)
    flow = np.full((2, 100, 100), 2.0, np.float32)

    def detect(corners):
        first = Features(nothing.points, nothing.descriptors, corners)
        return estimate(CameraMotionEstimator(params, CPU), first, nothing, flow)

    corners = rng.uniform(10, 90, (51, 2)).astype(np.float32)
    assert (detect(corners).homography != np.eye(3)).any()
    too_few = detect(corners[:50])
    assert (too_few.matches, too_few.inliers) == (50, 0)
    assert np.array_equal(too_few.homography, np.eye(3))
    # Of 60 matches only a few agree: the homography is thrown away.
    flow[:] = rng.uniform(-40, 40, flow.shape)
    disagreeing = detect(rng.uniform(0, 99, (60, 2)).astype(np.float32))
    assert np.array_equal(disagreeing.homography, np.eye(3)) and disagreeing.matches == 60
    assert disagreeing.inliers <= 25
    assert np.array_equal(disagreeing.homography, np.eye(3))


def test_matches_are_the_nearest_descriptors_within_the_window(rng):
    first, second = (
        Features(
            rng.uniform(0, 120, (n, 2)).astype(np.float32),
            rng.integers(0, 4, (n, 3), dtype=np.uint64),  # few values: many equal distances
            None,
        )
        for n in (70, 90)
    )
    [(in_first, in_second)] = match_in_window(CPU, [(first, second)], 25)
    expected_first, expected_second = [], []
    for point, descriptor in zip(second.points, second.descriptors, strict=True):
        near = np.flatnonzero((np.abs(first.points - point) < 25).all(axis=1))
        if len(near):
            distance = [bin(int(w)).count("1") for w in (first.descriptors[near] ^ descriptor).flat]
            best = near[np.argmin(np.reshape(distance, (-1, 3)).sum(axis=1))]
            expected_first.append(first.points[best])
            expected_second.append(point)
    assert np.array_equal(in_first, expected_first)
    assert np.array_equal(in_second, expected_second)


def test_window_is_strict():
    descriptors = np.zeros((1, 1), np.uint64)
    at = lambda x, y: Features(np.array([[x, y]], np.float32), descriptors, None)  # noqa: E731
    pairs = [(at(0, 0), at(24.99, 24.99)), (at(0, 0), at(25, 0)), (at(0, 25), at(0, 0))]
    found = match_in_window(CPU, pairs, 25)
    assert [len(in_first) for in_first, _ in found] == [1, 0, 0]


def test_flow_is_read_at_the_nearest_pixel_inside_the_frame():
    flow = np.stack(np.meshgrid(np.arange(5.0), 10 * np.arange(4.0))).astype(np.float32)
    corners = np.array([[1.5, 0.5], [4.4, 3.4], [-0.4, 9.0]], np.float32)
    from_, to = match_along_flow(
        corners, flow.ravel()[flow_sample_points(corners, *flow.shape[1:])]
    )
    assert np.array_equal(from_, corners)
    # Halves round to even, as cvRound does.
    assert np.allclose(to - from_, [[2, 0], [4, 30], [0, 30]], atol=1e-5)


def test_misread_flow_is_that_of_dense_flow():
    flow = np.arange(2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4)
    corners = np.array([[2, 1], [0, 5]], np.float32)
    _, to = match_along_flow(
        corners, flow.ravel()[flow_sample_points(corners, *flow.shape[1:], misread=True)]
    )
    step = to - corners
    assert step[0].tolist() == [flow[0, 1, 2], flow[1, 1, 1]]
    # Column 5 of the last row of four columns lies behind the array; its last value stands in.
    assert step[1].tolist() == [flow[0, 5, 0], flow[1, 5, 3]]


def test_flow_that_is_not_finite_is_left_out():
    flow = np.zeros((2, 4, 4), np.float32)
    flow[0, 1, 1], flow[1, 2, 2] = np.nan, np.inf
    corners = np.array([[1, 1], [2, 2], [3, 3]], np.float32)
    from_, to = match_along_flow(
        corners, flow.ravel()[flow_sample_points(corners, *flow.shape[1:])]
    )
    assert from_.tolist() == to.tolist() == [[3, 3]]


def test_dense_flow_matches_keypoints_with_the_first_frame_and_corners_of_the_second(rng):
    scene = film(rng, [camera_step(256, 340, 2.0, rng) for _ in range(3)], patch_px=0)
    camera = camera_motion(mode="dense_flow")
    features = camera.features(scene.frames, 0)
    # With no corner to follow only the descriptors speak: the motion since the first frame.
    bare = Features(features[3].points, features[3].descriptors, np.empty((0, 2), np.float32))
    flow = np.zeros((2, 256, 340), np.float32)
    since_start = scene.homographies[2] @ scene.homographies[1] @ scene.homographies[0]
    motion = estimate(camera, features[2], bare, flow, features[0])
    assert corner_error_px(motion.homography, since_start, (256, 340)) < 1.0
    # Corners come from the second frame: those of the first do not matter.
    no_corners = Features(features[2].points, features[2].descriptors, bare.corners)
    a, b = (estimate(camera, f, features[3], flow, features[0]) for f in (features[2], no_corners))
    assert (a.matches, a.inliers) == (b.matches, b.inliers) and a.matches > bare.points.shape[0]
    with pytest.raises(ValueError, match="first frame"):
        estimate(camera, features[2], features[3], flow)


def test_params_tell_when_a_video_must_stay_whole():
    assert not WarpParams().needs_whole_video and not WarpParams().needs_first_frame
    assert WarpParams(mode="dense_flow").needs_whole_video
    assert WarpParams(boxes="people").needs_whole_video
    assert not WarpParams(boxes="people").needs_first_frame


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"window_px": 0}, "window_px"),
        ({"quality": 0.0}, "quality"),
        ({"threshold_px": 0.0}, "threshold_px"),
        ({"min_inliers": 2}, "min_inliers"),
        ({"mode": "dense_flow", "boxes": "people"}, "boxes"),
    ],
)
def test_impossible_params_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        WarpParams(**bad)


@pytest.mark.parametrize("detector", DETECTORS)
def test_no_frame_is_too_small_or_too_plain(detector, rng):
    camera = camera_motion(detector=detector)
    sizes = [(1, 1), (1, 90), (90, 1), (2, 3), (15, 15), (16, 16), (17, 200), (200, 16), (31, 33)]
    for height, width in sizes:
        frames = [
            np.zeros((height, width), np.uint8),
            np.full((height, width), 255, np.uint8),
            rng.integers(0, 256, (height, width), dtype=np.uint8),
            rng.integers(0, 256, (height, width), dtype=np.uint8),
        ]
        features = camera.features(np.stack(frames), 0)
        flow = rng.normal(0, 3, (2, height, width)).astype(np.float32)
        for first, second in zip(features[:-1], features[1:], strict=True):
            motion = estimate(camera, first, second, flow)
            assert isinstance(motion, CameraMotion) and motion.homography.dtype == np.float64
