"""Flow colours are those of the published Middlebury coding."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.report import flow_colours
from flowpipe.report.colours import WHEEL, wheel_key


def one(u: float, v: float, max_px: float | None = 1.0) -> tuple[int, ...]:
    return tuple(flow_colours(np.array([[[u]], [[v]]], np.float32), max_px)[0, 0].tolist())


def test_the_wheel_has_its_55_hues():
    assert len(WHEEL) == 55
    assert WHEEL[0].tolist() == [1, 0, 0]
    assert np.rint(WHEEL[[15, 21, 25, 36, 49]] * 255).tolist() == [
        [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("u", "v", "colour"),
    [
        (0, 0, (255, 255, 255)),
        (1, 0, (255, 0, 0)),  # right: red
        (0, 1, (255, 229, 0)),  # down: yellow
        (-1, 0, (0, 209, 255)),  # left: between cyan and blue
        (0, -1, (88, 0, 255)),  # up: between blue and magenta
        (0.5, 0, (255, 127, 127)),  # half the speed: half as far from white
        (2, 0, (191, 0, 0)),  # beyond the scale: darkened
        (np.nan, 0, (0, 0, 0)),
        (0, np.inf, (0, 0, 0)),
        (1.7e9, 0, (0, 0, 0)),  # how the benchmark marks unknown flow
    ],
)
def test_known_flow_has_the_published_colours(u, v, colour):
    got = one(u, v)
    assert np.abs(np.subtract(got, colour)).max() <= 6, got


def test_right_is_red_whatever_the_sign_of_zero():
    # atan2 tells -0 from 0. The published wheel has a seam there, of one of its 55 steps, no more.
    assert one(1, -0.0)[0] == one(1, 0.0)[0] == 255
    assert np.abs(np.subtract(one(1, -1e-7), one(1, 1e-7))).max() <= 43


def test_scale_defaults_to_the_largest_of_the_field(rng):
    flow = rng.normal(0, 3, (2, 9, 11)).astype(np.float32)
    largest = float(np.hypot(*flow).max())
    np.testing.assert_array_equal(flow_colours(flow), flow_colours(flow, largest))
    assert (flow_colours(np.zeros((2, 4, 5))) == 255).all()


def test_colours_have_the_shape_of_the_flow(rng):
    flow = rng.normal(size=(3, 4, 2, 5, 6))
    colours = flow_colours(flow, 2)
    assert colours.shape == (3, 4, 5, 6, 3)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours[1, 2], flow_colours(flow[1, 2], 2))
    assert flow_colours(np.zeros((0, 2, 5, 6))).shape == (0, 5, 6, 3)
    with pytest.raises(ValueError, match=r"\(\.\.\., 2, H, W\)"):
        flow_colours(np.zeros((5, 6, 2)))
    with pytest.raises(ValueError, match="above 0"):
        flow_colours(np.zeros((2, 5, 6)), 0)


def test_the_key_shows_each_direction_where_it_points():
    picture, cover = wheel_key(101)
    assert cover[50, 50] == 1
    assert cover[0, 0] == 0
    assert picture[50, 50].min() > 245
    assert np.abs(picture[50, 97].astype(int) - (255, 0, 0)).max() < 40  # right is red
    assert picture[97, 50][:2].min() > 200 > picture[97, 50][2]  # down is yellow
