"""AKAZE, corners, matching of keypoints: all instruction sets give what NumPy and OpenCV give."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synth import texture

from flowpipe.errors import BackendError
from flowpipe.flow.features import DETECTORS, find_keypoints, make_detector
from flowpipe.ops import feature_ops, get_ops
from flowpipe.ops.cpu import CpuOps, native_core
from flowpipe.ops.cpu_features import features_of
from flowpipe.ops.reference_features import ReferenceFeatures
from flowpipe.video import open_video

reference = ReferenceFeatures()
without_core = features_of(CpuOps(core=native_core("/nowhere/_core.so")))
EVERY = [without_core, *(features_of(CpuOps(isa)) for isa in native_core().usable)]
needs_akaze = pytest.mark.skipif(
    bool(DETECTORS["akaze"].lack()), reason=DETECTORS["akaze"].lack() or "has AKAZE"
)


def keypoints(rng, count, words, step_px, size_px):
    """Positions on a grid, so that many are equally far; bits that are often equally similar."""
    points = rng.integers(0, round(size_px / step_px), (count, 2)) * step_px
    bits = rng.integers(0, 4, (count, words), dtype=np.uint64)
    bits *= np.uint64(0x4000000000000001)  # words whose first and last bits count
    return points.astype(np.float32), bits


@pytest.mark.parametrize("ops", EVERY, ids=lambda ops: ops.name)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 90), st.integers(0, 90), st.sampled_from([1, 4, 8]),
    st.sampled_from([0.25, 1.0, 7.3]), st.sampled_from([1, 5, 25, 0.1, 7.3, 1e4]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_matches_are_those_of_the_reference(ops, seed, in_first, in_second, words, step, window):
    rng = np.random.default_rng(seed)
    frames = *keypoints(rng, in_first, words, step, 60), *keypoints(rng, in_second, words, step, 60)
    ours = ops.match_keypoints(*frames, window)
    assert ours.dtype == np.int64 and ours.shape == (in_second,)
    np.testing.assert_array_equal(ours, reference.match_keypoints(*frames, window))


@pytest.mark.parametrize("ops", EVERY, ids=lambda ops: ops.name)
def test_descriptors_of_all_ones_differ_by_all_bits(ops):
    at = np.zeros((1, 2), np.float32)
    zeros, ones = np.zeros((1, 8), np.uint64), np.full((1, 8), 2**64 - 1, np.uint64)
    assert ops.match_keypoints(at, zeros, at, ones, 25).tolist() == [0]


def test_descriptors_of_another_kind_are_refused():
    at, bits = np.zeros((1, 2), np.float32), np.zeros((1, 8), np.uint64)
    for ops in (reference, *EVERY):
        for wrong in (bits[:, :4], bits.astype(np.float32), np.zeros((2, 8), np.uint64)):
            with pytest.raises(ValueError, match="descriptors"):
                ops.match_keypoints(at, bits, at, wrong, 25)
        with pytest.raises(ValueError, match="float32"):
            ops.match_keypoints(at.astype(np.float64), bits, at, bits, 25)


def images(rng, height, width):
    """Texture, noise, blocks of one value (strengths that are equal), nothing at all."""
    blocks = np.kron(rng.integers(0, 2, (-(-height // 7), -(-width // 7))), np.full((7, 7), 255))
    noise = rng.integers(0, 256, (height, width))
    smooth = texture(height, width, seed=int(rng.integers(99)))
    kinds = [smooth, noise, blocks[:height, :width], np.full((height, width), 90)]
    return [kind.astype(np.uint8) for kind in kinds]


@pytest.mark.parametrize("ops", EVERY, ids=lambda ops: ops.name)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70), st.integers(1, 400),
    st.sampled_from([1e-3, 0.01, 0.3, 1.0]), st.sampled_from([0.0, 0.5, 1, 2.5, 3.0, 3.4, 11, 500]),
    st.sampled_from(["", "half", "nothing"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_corners_are_those_of_opencv(ops, seed, height, width, most, quality, apart, masked):
    rng = np.random.default_rng(seed)
    mask = None
    if masked:
        mask = np.zeros((height, width), np.uint8)
        if masked == "half":
            mask[:, : width // 2] = rng.integers(1, 256, (height, width // 2))
    for image in images(rng, height, width):
        ours = ops.corners(image, most, quality, apart, mask)
        meant = cv2.goodFeaturesToTrack(image, most, quality, apart, mask=mask)
        assert ours.dtype == np.float32 and ours.shape[1:] == (2,)
        np.testing.assert_array_equal(ours, np.empty((0, 2)) if meant is None else meant[:, 0])


@pytest.fixture(scope="module")
def real_frames(shared_data):
    """Two neighbouring frames of several clips, gray."""
    frames = []
    for path in sorted((shared_data / "clips").rglob("*.avi"))[::5][:6]:
        with open_video(str(path)) as video:
            window = next(iter(video.windows(max_frames=2))).data
        ops = get_ops("reference")
        frames.append(ops.gray(ops.resize(window, 256, 340)))
    assert frames
    return frames


@pytest.mark.parametrize("detector", [name for name, row in DETECTORS.items() if not row.lack()])
def test_matches_of_real_features_are_those_of_the_reference(real_frames, detector):
    for pair in real_frames:
        points = [find_keypoints(frame, make_detector(detector)) for frame in pair]
        for window in (3, 25):
            meant = reference.match_keypoints(*points[0], *points[1], window)
            assert (meant >= 0).any()
            for ops in EVERY:
                ours = ops.match_keypoints(*points[0], *points[1], window)
                np.testing.assert_array_equal(ours, meant)


def test_corners_of_real_frames_are_those_of_opencv(real_frames):
    for frame in np.concatenate(real_frames):
        meant = reference.corners(frame, 1000, 0.001, 3.0)
        assert len(meant) > 50
        for ops in EVERY:
            np.testing.assert_array_equal(ops.corners(frame, 1000, 0.001, 3.0), meant)


def same(ours, meant):
    for a, b in zip(ours, meant, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@needs_akaze
@pytest.mark.parametrize("ops", EVERY, ids=lambda ops: ops.name)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 150), st.integers(1, 150),
    st.sampled_from(["", "half", "nothing"]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_keypoints_are_those_of_opencv(ops, seed, height, width, masked):
    rng = np.random.default_rng(seed)
    mask = None
    if masked:
        mask = np.zeros((height, width), np.uint8)
        if masked == "half":
            mask[:] = rng.integers(0, 3, (height, width))
    for image in images(rng, height, width):
        same(ops.akaze(image, mask), reference.akaze(image, mask))


@needs_akaze
def test_keypoints_of_real_frames_are_those_of_opencv(real_frames):
    found = 0
    for frame in np.concatenate(real_frames):
        meant = reference.akaze(frame)
        found += len(meant[0])
        for ops in EVERY:
            same(ops.akaze(frame), meant)
    assert found > 1000


def test_features_use_the_compiled_core_where_there_is_one():
    assert without_core.name == "reference"
    if native_core().available:
        assert feature_ops().name == get_ops("cpu").name


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    if not native_core().available:
        pytest.skip(native_core().reason)
    monkeypatch.setenv("FLOWPIPE_ISA", "mmx")
    feature_ops.cache_clear()
    with pytest.raises(BackendError, match="mmx"):
        feature_ops()
