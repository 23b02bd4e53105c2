"""Number of images -> snippet positions, by the sampling strategies of the original systems.

Positions count from 0. A strategy returns the first image of each snippet. A snippet has L
consecutive images; `images_of` extends it past the end of the video. ``tests/tsn/test_recorded.py``
compares every strategy with recorded results of the original code.

3 snippets (0, 1, 2) of 4 images from a video of 31. Training draws the first image of each snippet
from the marked ones; validation and testing read the marked images::

    tsn_pytorch  train  000000000111111111222222222....
                 val    ....0000......1111.....2222....
                 test   ....0000......1111.....2222....
    caffe        train  0000000...1111111...2222222....
                 val    ...0000......1111......2222....
                 test   0000.........1111.........2222.
    mmaction2    train  000000000111111111222222222....
                 val    0000..........1111.........2222
                 test   0000..........1111.........2222

``dense`` spreads the snippets over a range of 64 images: training draws one range, validation and
testing take ten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Starts = NDArray[np.int64]
Draw = Callable[[int, int], NDArray[np.int64]]
"""``draw(bound, count)``: random integers below the bound, as NumPy's ``randint(bound, size)``."""

DENSE_RANGE = 64
"""Length of the range over which dense sampling spreads its snippets, images."""

DENSE_POSITIONS = 10
"""Number of such ranges per video in validation and testing."""


@dataclass(frozen=True)
class SamplingStrategy:
    """Sampling strategy: functions that return the first image of each snippet, by phase.

    They return S starts, except that ``val`` and ``test`` of dense sampling return 10 S.
    """

    train: Callable[[int, int, int, Draw], Starts]
    """Training starts, from (images, segments, length, draw)."""
    val: Callable[[int, int, int], Starts]
    """Validation starts, from (images, segments, length)."""
    test: Callable[[int, int, int], Starts]
    """Test starts, from (images, segments, length)."""
    tail: Literal["repeat", "loop"] = "repeat"
    """Images past the end of the video: ``repeat`` the last, or ``loop`` to the first."""


def images_of(starts: Starts, length: int, images: int, tail: str = "repeat") -> NDArray[np.int64]:
    """Return the positions of the images of each snippet.

    Parameters
    ----------
    starts : int64 (S,)
        First image of each snippet.
    length : int
        Images of a snippet, L.
    images : int
        Images of the video.
    tail : {"repeat", "loop"}
        Images past the end of the video, as in `SamplingStrategy`.

    Returns
    -------
    int64 (S, L)
        Positions, from 0.
    """
    wanted = starts[:, None] + np.arange(length)
    return wanted % images if tail == "loop" else np.minimum(wanted, images - 1)


def _zeros(segments: int) -> Starts:
    return np.zeros(segments, np.int64)


def _tsn_pytorch_train(images: int, segments: int, length: int, draw: Draw) -> Starts:
    """Draw as tsn-pytorch's dataset.py: one start per segment; sorted starts if videos are short.

    tsn-pytorch fails between S and L images; this starts at 0 there, as mmaction does.
    """
    every = (images - length + 1) // segments
    if every > 0:
        return np.arange(segments) * every + draw(every, segments)
    if images > max(segments, length):
        return np.sort(draw(images - length + 1, segments))
    return _zeros(segments)


def _tsn_pytorch_val(images: int, segments: int, length: int) -> Starts:
    if images > segments + length - 1:
        return _centres(images, segments, length)
    return _zeros(segments)


def _tsn_pytorch_test(images: int, segments: int, length: int) -> Starts:
    """Return tsn-pytorch's test starts; 0 for videos shorter than a snippet, which it misreads."""
    return _centres(images, segments, length) if images >= length else _zeros(segments)


def _centres(images: int, segments: int, length: int) -> Starts:
    tick = (images - length + 1) / float(segments)
    return np.array([int(tick / 2.0 + tick * k) for k in range(segments)], np.int64)


def _caffe_train(images: int, segments: int, length: int, draw: Draw) -> Starts:
    """Draw as Caffe's VideoDataLayer: a snippet stays inside its segment."""
    every = images // segments
    if every < length:
        return _zeros(segments)
    return np.arange(segments) * every + draw(every - length + 1, segments)


def _caffe_val(images: int, segments: int, length: int) -> Starts:
    every = images // segments
    if every < length:
        return _zeros(segments)
    return (every - length + 1) // 2 + np.arange(segments) * every


def _caffe_test(images: int, segments: int, length: int) -> Starts:
    """Return the starts of TSN's eval_net.py: equal steps from the first image."""
    step = (images - length) // max(1, segments - 1)
    return np.arange(segments) * max(0, step)


def _mmaction2_train(images: int, segments: int, length: int, draw: Draw) -> Starts:
    """Draw as mmaction2's SampleFrames."""
    every = (images - length + 1) // segments
    if every > 0:
        return np.arange(segments) * every + draw(every, segments)
    if images > max(segments, length):
        return np.sort(draw(images - length + 1, segments))
    if every == 0:
        ratio = (images - length + 1.0) / segments
        return np.around(np.arange(segments) * ratio).astype(np.int64)
    return _zeros(segments)


def _mmaction2_test(images: int, segments: int, length: int) -> Starts:
    """Return the test starts of mmaction2 1.x.

    Single images: the centres of the S segments. Longer snippets: equal steps from the first image
    to the end, or the middle of the video if S = 1.
    """
    if length == 1:
        wide = images / segments
        return (np.arange(segments) * wide + wide / 2.0).astype(np.int64)
    room = max(images - length, 0)
    if segments == 1:
        return np.array([room // 2], np.int64)
    return np.around(np.arange(segments) * (room / (segments - 1))).astype(np.int64)


def _dense_train(images: int, segments: int, length: int, draw: Draw) -> Starts:
    """Draw as mmaction2's DenseSampleFrames: all snippets from one range of 64 images.

    Like mmaction2's, it never draws the last position at which a range fits.
    """
    places = max(1, 1 + images - DENSE_RANGE)
    start = 0 if places == 1 else int(draw(places - 1, 1)[0])
    return _dense(start, images, segments)


def _dense_test(images: int, segments: int, length: int) -> Starts:
    """Return S starts in each of ten ranges, spaced evenly from the first image to the end."""
    places = max(1, 1 + images - DENSE_RANGE)
    starts = np.linspace(0, places - 1, num=DENSE_POSITIONS, dtype=np.int64)
    return np.concatenate([_dense(int(start), images, segments) for start in starts])


def _dense(start: int, images: int, segments: int) -> Starts:
    return (np.arange(segments) * (DENSE_RANGE // segments) + start) % images


SAMPLING_STRATEGIES = {
    "tsn_pytorch": SamplingStrategy(_tsn_pytorch_train, _tsn_pytorch_val, _tsn_pytorch_test),
    "caffe": SamplingStrategy(_caffe_train, _caffe_val, _caffe_test),
    "mmaction2": SamplingStrategy(_mmaction2_train, _mmaction2_test, _mmaction2_test, tail="loop"),
    "dense": SamplingStrategy(_dense_train, _dense_test, _dense_test, tail="loop"),
}
"""Sampling strategies by their names in recipes."""
