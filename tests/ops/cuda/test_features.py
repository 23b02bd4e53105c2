"""Features that kernels choose in parallel are those that the CPU chooses one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import emulated_ops, only_new_garbage
from hypothesis import given, settings
from hypothesis import strategies as st
from real_gpu import require_cuda

from flowpipe.errors import DeviceMemoryError
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import native_core

pytestmark = pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")
FRAME = 59  # pixels a side of a frame that has one place for a keypoint


@pytest.fixture(params=["cuda", pytest.param("gpu", marks=pytest.mark.cuda)], scope="module")
def gpu(request):
    if request.param == "gpu":
        require_cuda()
        return get_ops("cuda")
    return emulated_ops()


def cpu_keypoints(response):
    """Positions of the maxima of one image of responses, by the compiled core."""
    height, width = response.shape
    scaled = np.full_like(response, 1 / 16)  # the core multiplies by 16
    points = np.empty((response.size // 4, 2), np.float32)
    arguments = response, np.zeros_like(response), scaled, 0.5, points
    return points[: get_ops("cpu").call("akaze_keypoints", height, width, *arguments)]


@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.integers(4, 40), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_of_maxima_two_pixels_apart_the_cpu_s_are_kept(gpu, seed, more_rows, more_columns, levels):
    """Maxima on a grid of two pixels, with few values: long chains that decide about each other."""
    rng = np.random.default_rng(seed)
    response = np.zeros((3, FRAME + more_rows, FRAME + more_columns), np.float32)
    for image, share in zip(response, (0.3, 0.7, 1.0), strict=True):
        grid = image[::2, 1::2]
        grid[:] = rng.integers(1, levels + 1, grid.shape) * (rng.random(grid.shape) < share)
        image += rng.random(image.shape, np.float32) * np.float32(0.1)  # refined by as much
    found = gpu.features.keypoints(gpu.to_device(response), None, 0.5)
    meant = [cpu_keypoints(image) for image in response]
    assert found.counts == [len(points) for points in meant]
    np.testing.assert_array_equal(gpu.to_host(found.points), np.concatenate(meant))


def test_a_frame_is_not_changed_by_the_others_of_a_call(gpu, rng):
    gray = rng.integers(0, 256, (3, 80, 90), dtype=np.uint8)
    together = gpu.features.akaze(gray), gpu.features.corners(gray, 50, 0.01, 3.0)
    for k in range(3):
        [keypoints] = gpu.features.akaze(gray[k : k + 1])
        [corners] = gpu.features.corners(gray[k : k + 1], 50, 0.01, 3.0)
        np.testing.assert_array_equal(keypoints.points, together[0][k].points)
        np.testing.assert_array_equal(keypoints.descriptors, together[0][k].descriptors)
        np.testing.assert_array_equal(corners, together[1][k])


@pytest.mark.parametrize("apart_px", [0.0, 1.0, 1.5, 2.0, 40.0, 1e5, 1e200, float("inf")])
def test_corners_of_any_distance_are_the_cpu_s(gpu, rng, apart_px):
    gray = rng.integers(0, 256, (1, 40, 50), dtype=np.uint8)
    [ours], [meant] = (o.features.corners(gray, 300, 0.01, apart_px) for o in (gpu, get_ops()))
    np.testing.assert_array_equal(ours, meant)


def test_frames_without_features_among_others(gpu, rng):
    gray = np.full((3, 80, 90), 90, np.uint8)
    gray[1] = rng.integers(0, 256, (80, 90))
    assert [len(found.points) > 0 for found in gpu.features.akaze(gray)] == [False, True, False]
    assert [len(c) > 0 for c in gpu.features.corners(gray, 50, 0.01, 3.0)] == [False, True, False]
    assert [len(found.points) for found in gpu.features.akaze(gray[::2].copy())] == [0, 0]
    assert gpu.features.akaze(gray[:0]) == gpu.features.corners(gray[:0], 50, 0.01, 3.0) == []


def test_features_are_found_where_memory_is_too_little_for_all_frames(rng, monkeypatch):
    with only_new_garbage():
        ops = emulated_ops()
        gray = rng.integers(0, 256, (6, 80, 90), dtype=np.uint8)
        mask = rng.integers(0, 2, gray.shape, dtype=np.uint8)
        meant = get_ops().features
        memory, here = ops.cupy.cuda.memory, ops.to_device(gray)
        monkeypatch.setattr(memory, "total", memory.held() + 50 * gray[0].size)  # 2 frames, not 6
        corners = ops.features.corners(here, 50, 0.01, 3.0, mask)
        for ours, theirs in zip(corners, meant.corners(gray, 50, 0.01, 3.0, mask), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for ours, theirs in zip(
            ops.features.akaze(here, mask), meant.akaze(gray, mask), strict=True
        ):
            np.testing.assert_array_equal(ours.points, theirs.points)
        monkeypatch.setattr(memory, "total", memory.held() + gray[0].size)
        with pytest.raises(DeviceMemoryError):
            ops.features.akaze(here)
