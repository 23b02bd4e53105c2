"""Small windows are joined to the size that a device wants, and no frame is lost."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.errors import DecodeError
from flowpipe.extraction.windows import gather
from flowpipe.types import Frames


def windows(*counts, height=4, width=5):
    """Windows of so many frames; a negative count is damage."""
    number = 0
    for count in counts:
        if count < 0:
            raise DecodeError("cut off")
        numbers = np.arange(number, number + count)
        data = np.broadcast_to(numbers[:, None, None, None], (count, height, width, 3))
        yield Frames(data.astype(np.uint8), numbers / 25)
        number += count


@pytest.mark.parametrize(
    ("counts", "most", "meant"),
    [
        ((5, 5, 5, 5), 16, [15, 5]),
        ((16, 16, 3), 16, [16, 16, 3]),
        ((1,) * 7, 3, [3, 3, 1]),
        ((20, 1), 16, [20, 1]),
        ((), 16, []),
    ],
)
def test_small_windows_are_joined_up_to_a_count(counts, most, meant):
    found = list(gather(windows(*counts), most, 1 << 20))
    assert [len(frames.data) for frames in found] == meant
    numbers = np.arange(sum(counts))
    if found:
        np.testing.assert_array_equal(np.concatenate([f.data[:, 0, 0, 0] for f in found]), numbers)
        np.testing.assert_array_equal(np.concatenate([f.pts_s for f in found]), numbers / 25)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_windows_of_large_frames_are_limited_by_their_bytes(most):
    side = 256
    found = gather(windows(*[1] * (2 * most), height=side, width=side), 64, most * 3 * side**2)
    assert [len(frames.data) for frames in found] == [most, most]


def test_a_frame_larger_than_the_limit_is_a_window():
    assert [len(frames.data) for frames in gather(windows(1, 1), 64, 1)] == [1, 1]


def test_frames_before_the_damage_come_out_before_its_error():
    found = []
    with pytest.raises(DecodeError, match="cut off"):
        for frames in gather(windows(3, 3, -1), 16, 1 << 20):
            found.append(len(frames.data))
    assert found == [6]
