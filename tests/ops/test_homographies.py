"""Homographies of matches: all backends give equal bytes, and those of OpenCV's fit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from emulated import emulated_ops
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe.ops import get_ops
from flowpipe.ops.cpu import CpuOps, native_core

reference = get_ops("reference").features


@pytest.fixture(params=[*native_core().usable, "cuda"], scope="module")
def ops(request):
    """The operations on features of each backend; `cuda` is the emulator."""
    return emulated_ops().features if request.param == "cuda" else CpuOps(request.param).features


def apply(points, homography):
    return cv2.perspectiveTransform(points[None].astype(np.float64), homography)[0]


def homography(rng, size_px, bend):
    shift = rng.uniform(-0.05, 0.05, 2) * size_px
    matrix = np.eye(3) + rng.uniform(-bend, bend, (3, 3)) * [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    matrix[:2, 2] = shift
    matrix[2, :2] = rng.uniform(-bend, bend, 2) / size_px
    return matrix


def matches(rng, counts, size_px, noise_px, bend=0.02):
    """Matches of motions with so many matches each, and homographies of the motions."""
    motions = [homography(rng, size_px, bend) for _ in counts]
    first = [rng.uniform(0, size_px, (count, 2)) for count in counts]
    second = [apply(p, h) if len(p) else p for p, h in zip(first, motions, strict=True)]
    first, second = np.concatenate(first), np.concatenate(second)
    second += rng.normal(0, noise_px, second.shape)
    return first.astype(np.float32), second.astype(np.float32), motions


def same(ours, meant):
    for a, b in zip(ours, meant, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@given(
    st.integers(0, 2**32 - 1), st.lists(st.integers(0, 90), min_size=1, max_size=3),
    st.integers(0, 60), st.sampled_from([40.0, 340.0, 4096.0]), st.sampled_from([0.0, 0.3, 3.0]),
    st.sampled_from([0.3, 1.0, 4.0]), st.integers(1, 3), st.integers(3, 30),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_bytes_are_those_of_the_reference(
    ops, seed, counts, strays, size, noise, threshold, most, least
):
    rng = np.random.default_rng(seed)
    first, second, _ = matches(rng, counts, size, noise)
    first = np.concatenate([first, rng.uniform(0, size, (strays, 2)).astype(np.float32)])
    second = np.concatenate([second, rng.uniform(0, size, (strays, 2)).astype(np.float32)])
    ours = ops.homographies(first, second, threshold, most, least)
    assert len(ours[0]) <= most
    same(ours, reference.homographies(first, second, threshold, most, least))


@pytest.mark.parametrize("size_px", [60.0, 340.0, 4096.0])
def test_two_motions_are_found_among_strays_the_larger_first(ops, size_px, rng):
    first, second, motions = matches(rng, [500, 300], size_px, 0.2)
    strays = rng.uniform(0, size_px, (2, 200, 2)).astype(np.float32)
    first, second = np.concatenate([first, strays[0]]), np.concatenate([second, strays[1]])
    order = rng.permutation(len(first))
    found, agree = ops.homographies(first[order], second[order], 1.0, 2, 25)
    assert found.shape == (2, 3, 3) and agree.shape == (2, 1000)
    for k, true in enumerate(motions):
        off = np.linalg.norm(apply(first[:800], found[k]) - apply(first[:800], true), axis=1)
        assert off.mean() < 0.1
        mine = order < 500 if k == 0 else (order >= 500) & (order < 800)
        assert agree[k][mine].mean() > 0.98


def test_the_result_is_the_least_squares_fit_of_opencv(ops, rng):
    first, second, _ = matches(rng, [400], 340.0, 0.2)
    (found,), (agree,) = ops.homographies(first, second, 1.0, 1, 25)
    fitted, _ = cv2.findHomography(first[agree], second[agree], 0)
    assert np.abs(apply(first, found) - apply(first, fitted)).max() < 0.002


def test_a_motion_of_a_tenth_of_the_matches_is_found_where_its_matches_lie_together(ops, rng):
    first, second, (true,) = matches(rng, [150], 340.0, 0.2)
    strays = rng.uniform(0, 340, (2, 1350, 2)).astype(np.float32)
    (found, *_), _ = ops.homographies(
        np.concatenate([strays[0], first]), np.concatenate([strays[1], second]), 1.0, 1, 25
    )
    assert np.abs(apply(first, found) - apply(first, true)).max() < 1


@pytest.mark.parametrize("points", ["none", "three", "one place", "a line", "nothing in common"])
def test_matches_that_fix_no_homography_give_none(ops, points, rng):
    first = {
        "none": np.empty((0, 2)),
        "three": rng.uniform(0, 99, (3, 2)),
        "one place": np.full((60, 2), 7.0),
        "a line": np.repeat(np.arange(60.0)[:, None], 2, axis=1),
        "nothing in common": rng.uniform(0, 99, (60, 2)),
    }[points].astype(np.float32)
    second = first + 1 if points != "nothing in common" else rng.permutation(first)
    found, agree = ops.homographies(first, second.astype(np.float32), 1.0, 2, 25)
    assert found.shape == (0, 3, 3) and len(agree) == 0


def test_matches_of_another_kind_are_refused(ops):
    good = np.zeros((5, 2), np.float32)
    for wrong in (good[:4], good.astype(np.float64), good[:, :1], good + np.float32(np.nan)):
        with pytest.raises(ValueError, match="match"):
            ops.homographies(good, wrong, 1.0, 2, 3)
