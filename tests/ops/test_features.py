"""AKAZE, corners and matches: all instruction sets give the results of NumPy and OpenCV."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from emulated import emulated_ops
from hypothesis import given, settings
from hypothesis import strategies as st
from real_gpu import require_cuda
from synth import texture

from flowpipe.flow.features import DETECTORS, make_detector, why_no_detector
from flowpipe.ops import Keypoints, get_ops
from flowpipe.ops.cpu import CpuOps, native_core
from flowpipe.video import open_video

reference = get_ops("reference").features
without_core = CpuOps(core=native_core("/nowhere/_core.so")).features
GPU = pytest.param("gpu", marks=pytest.mark.cuda)
LACK = why_no_detector("akaze", "reference")
needs_akaze = pytest.mark.skipif(bool(LACK), reason=LACK or "has AKAZE")


@pytest.fixture(params=["no core", *native_core().usable, "cuda", GPU], scope="module")
def ops(request):
    """The operations on features of each backend; `cuda` is the emulator."""
    if request.param == "gpu":
        require_cuda()
        return get_ops("cuda").features
    if request.param == "cuda":
        return emulated_ops().features
    return without_core if request.param == "no core" else CpuOps(request.param).features


def keypoints(rng, count, words, step_px, size_px):
    """Positions on a grid, so that many are equally far; bits that are often equally similar."""
    points = rng.integers(0, round(size_px / step_px), (count, 2)) * step_px
    bits = rng.integers(0, 4, (count, words), dtype=np.uint64)
    bits *= np.uint64(0x4000000000000001)  # words whose first and last bits count
    return Keypoints(points.astype(np.float32), bits)


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 90), st.integers(0, 90), st.sampled_from([1, 4, 8]),
    st.sampled_from([0.25, 1.0, 7.3]), st.sampled_from([1, 5, 25, 0.1, 7.3, 1e4]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_matches_are_those_of_the_reference(ops, seed, in_first, in_second, words, step, window):
    rng = np.random.default_rng(seed)
    counts = in_first, in_second, in_first // 2
    frames = [keypoints(rng, count, words, step, 60) for count in counts]
    pairs = [*pairwise(frames), (frames[0], frames[2])]
    found, meant = (o.match_keypoints(pairs, window) for o in (ops, reference))
    for (_, second), ours, theirs in zip(pairs, found, meant, strict=True):
        assert ours.dtype == np.int64 and ours.shape == (len(second.points),)
        np.testing.assert_array_equal(ours, theirs)


def test_descriptors_of_all_ones_differ_by_all_bits(ops):
    at = np.zeros((1, 2), np.float32)
    zeros, ones = np.zeros((1, 8), np.uint64), np.full((1, 8), 2**64 - 1, np.uint64)
    [found] = ops.match_keypoints([(Keypoints(at, zeros), Keypoints(at, ones))], 25)
    assert found.tolist() == [0]


def test_descriptors_of_another_kind_are_refused(ops):
    at, bits = np.zeros((1, 2), np.float32), np.zeros((1, 8), np.uint64)
    for wrong in (bits[:, :4], bits.astype(np.float32), np.zeros((2, 8), np.uint64)):
        with pytest.raises(ValueError, match="descriptors"):
            ops.match_keypoints([(Keypoints(at, bits), Keypoints(at, wrong))], 25)
    double = Keypoints(at.astype(np.float64), bits)
    with pytest.raises(ValueError, match="float32"):
        ops.match_keypoints([(double, Keypoints(at, bits))], 25)


def images(rng, height, width):
    """(4, H, W): texture, noise, blocks of one value (strengths that are equal), nothing at all."""
    blocks = np.kron(rng.integers(0, 2, (-(-height // 7), -(-width // 7))), np.full((7, 7), 255))
    noise = rng.integers(0, 256, (height, width))
    smooth = texture(height, width, seed=int(rng.integers(99)))
    kinds = [smooth, noise, blocks[:height, :width], np.full((height, width), 90)]
    return np.stack(kinds).astype(np.uint8)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70), st.integers(1, 400),
    st.sampled_from([1e-3, 0.01, 0.3, 1.0]), st.sampled_from([0.0, 0.5, 1, 2.5, 3.0, 3.4, 11, 500]),
    st.sampled_from(["", "half", "nothing"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_corners_are_those_of_opencv(ops, seed, height, width, most, quality, apart, masked):
    rng = np.random.default_rng(seed)
    gray, mask = images(rng, height, width), None
    if masked:
        mask = np.zeros_like(gray)
        if masked == "half":
            mask[..., : width // 2] = rng.integers(1, 256, (len(gray), height, width // 2))
    found = ops.corners(gray, most, quality, apart, mask)
    for k, ours in enumerate(found):
        where = None if mask is None else mask[k]
        meant = cv2.goodFeaturesToTrack(gray[k], most, quality, apart, mask=where)
        assert ours.dtype == np.float32 and ours.shape[1:] == (2,)
        np.testing.assert_array_equal(ours, np.empty((0, 2)) if meant is None else meant[:, 0])
    assert len(found) == len(gray)


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


@pytest.mark.parametrize("detector", [n for n in DETECTORS if not why_no_detector(n, "cpu")])
def test_matches_of_real_features_are_those_of_the_reference(real_frames, detector, ops):
    pairs = [make_detector(detector, get_ops())(pair, None) for pair in real_frames]
    for window in (3, 25):
        meant = reference.match_keypoints(pairs, window)
        assert all((matched >= 0).any() for matched in meant)
        for ours, theirs in zip(ops.match_keypoints(pairs, window), meant, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_corners_of_real_frames_are_those_of_opencv(real_frames, ops):
    for pair in real_frames:
        meant = reference.corners(pair, 1000, 0.001, 3.0)
        assert min(map(len, meant)) > 50
        for ours, theirs in zip(ops.corners(pair, 1000, 0.001, 3.0), meant, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(0, 300),
    st.integers(1, 90),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_level_ranges_are_those_of_their_pixels(ops, seed, height, width, groups, pixels):
    rng = np.random.default_rng(seed)
    gray = images(rng, height, width)
    places = rng.integers(0, height * width, (groups, pixels))
    ours = ops.level_ranges(gray, places)
    levels = gray.reshape(len(gray), -1)[:, places]
    assert ours.dtype == np.uint8 and ours.shape == (len(gray), groups)
    np.testing.assert_array_equal(ours, np.ptp(levels, axis=2))


def same(ours, meant):
    """Whether keypoints of several frames are the same to the byte."""
    for frame, other in zip(ours, meant, strict=True):
        for a, b in ((frame.points, other.points), (frame.descriptors, other.descriptors)):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@needs_akaze
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 150), st.integers(1, 150),
    st.sampled_from(["", "half", "nothing"]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_keypoints_are_those_of_opencv(ops, seed, height, width, masked):
    rng = np.random.default_rng(seed)
    gray, mask = images(rng, height, width), None
    if masked:
        mask = np.zeros_like(gray)
        if masked == "half":
            mask[:] = rng.integers(0, 3, gray.shape)
    same(ops.akaze(gray, mask), reference.akaze(gray, mask))


@needs_akaze
def test_keypoints_of_real_frames_are_those_of_opencv(real_frames, ops):
    found = 0
    for pair in real_frames:
        meant = reference.akaze(pair)
        found += sum(len(frame.points) for frame in meant)
        same(ops.akaze(pair), meant)
    assert found > 1000


def test_features_use_the_compiled_core_where_there_is_one():
    assert without_core.name == "reference"
    for ops in map(CpuOps, native_core().usable):
        assert ops.features.name == ops.name


def test_masks_of_another_shape_are_refused(ops):
    gray = np.zeros((2, 20, 20), np.uint8)
    for wrong in (np.ones((20, 20), np.uint8), np.ones(gray.shape, bool)):
        with pytest.raises(ValueError, match="mask"):
            ops.corners(gray, 10, 0.1, 3.0, wrong)
        with pytest.raises(ValueError, match="mask"):
            ops.akaze(gray, wrong)
