"""Which images a network sees: tables worked out by hand, and properties.

test_recorded.py compares the rules with what the original code gave.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flowpipe.tsn.data import sampling
from flowpipe.tsn.data.sampling import DENSE_POSITIONS, SAMPLING_STRATEGIES, images_of


def fixed_draw(*values: int) -> Callable[[int, int], NDArray[np.int64]]:
    """Draws that are known: these values, each modulo the bound."""

    def draw(bound: int, count: int) -> NDArray[np.int64]:
        return np.array([values[k % len(values)] % bound for k in range(count)], np.int64)

    return draw


def highest(value: int) -> Callable[[int, int], NDArray[np.int64]]:
    """Return a draw that gives the value, or the highest number below the bound."""
    return lambda bound, count: np.full(count, min(value, bound - 1))


def legacy(seed: int) -> Callable[[int, int], NDArray[np.int64]]:
    """Draws of NumPy's old generator, which the original code uses."""
    state = np.random.RandomState(seed)
    return lambda bound, count: state.randint(bound, size=count)


@pytest.mark.parametrize(
    ("rule", "images", "segments", "length", "starts"),
    [
        # 102 starts, 34 in each third: k * 34 + draw
        ("tsn_pytorch", 106, 3, 5, [7, 41, 75]),
        ("tsn_pytorch", 100, 3, 1, [7, 40, 73]),  # the 100th is never drawn
        ("tsn_pytorch", 8, 3, 5, [0, 1, 2]),  # four starts, one each; 7 % 1 = 0
        ("tsn_pytorch", 6, 3, 5, [1, 1, 1]),  # two starts: drawn with repetition, sorted
        ("tsn_pytorch", 4, 3, 5, [0, 0, 0]),  # where the original raises
        ("tsn_pytorch", 3, 3, 5, [0, 0, 0]),
        ("tsn_pytorch", 1, 3, 1, [0, 0, 0]),
        # ranges of 35 images, 31 starts in each
        ("caffe", 106, 3, 5, [7, 42, 77]),
        ("caffe", 15, 3, 5, [0, 5, 10]),  # ranges of 5 have one start
        ("caffe", 14, 3, 5, [0, 0, 0]),
        ("mmaction2", 106, 3, 5, [7, 41, 75]),
        ("mmaction2", 5, 3, 4, [1, 1, 1]),  # two starts: drawn with repetition, 7 % 2 = 1, sorted
        ("mmaction2", 5, 3, 5, [0, 0, 1]),  # one start: around(k / 3) for k = 0, 1, 2
        ("mmaction2", 3, 4, 2, [0, 0, 1, 2]),  # two starts: around(k / 2), half to even
        ("mmaction2", 4, 3, 5, [0, 0, 0]),
        ("dense", 200, 8, 1, [7, 15, 23, 31, 39, 47, 55, 63]),
        ("dense", 30, 8, 1, [0, 8, 16, 24, 2, 10, 18, 26]),  # round the end of a short video
    ],
)
def test_sampling_of_training_follows_the_table(
    rule: str, images: int, segments: int, length: int, starts: list[int]
) -> None:
    assert (
        SAMPLING_STRATEGIES[rule].train(images, segments, length, fixed_draw(7)).tolist() == starts
    )


@pytest.mark.parametrize(
    ("rule", "phase", "images", "segments", "length", "starts"),
    [
        ("tsn_pytorch", "val", 106, 3, 5, [17, 51, 85]),  # tick 34: 17 + 34 k
        ("tsn_pytorch", "val", 100, 3, 1, [16, 50, 83]),  # tick 33.3
        ("tsn_pytorch", "val", 7, 3, 5, [0, 0, 0]),  # not more than S + L - 1
        ("tsn_pytorch", "val", 8, 3, 5, [0, 2, 3]),  # tick 4/3: .67, 2, 3.33
        ("tsn_pytorch", "test", 7, 3, 5, [0, 1, 2]),  # tick 1: .5, 1.5, 2.5
        ("tsn_pytorch", "test", 4, 3, 5, [0, 0, 0]),  # where the original reads file 0
        ("caffe", "val", 106, 3, 5, [15, 50, 85]),  # (35 - 5 + 1) // 2 + 35 k
        ("caffe", "val", 14, 3, 5, [0, 0, 0]),
        ("caffe", "test", 105, 3, 5, [0, 50, 100]),  # step (105 - 5) // 2
        ("caffe", "test", 6, 3, 5, [0, 0, 0]),
        ("caffe", "test", 6, 1, 5, [0]),
        ("mmaction2", "test", 100, 3, 1, [16, 50, 83]),
        ("mmaction2", "test", 105, 3, 5, [0, 50, 100]),
        ("mmaction2", "test", 3, 3, 5, [0, 0, 0]),
        ("mmaction2", "test", 30, 1, 5, [12]),  # (30 - 5) // 2
        ("mmaction2", "val", 105, 3, 5, [0, 50, 100]),
        # ten ranges of 64, from 0, 4, 8 ... 36 on, each with snippets 32 apart
        ("dense", "test", 100, 2, 1, [k for n in range(0, 37, 4) for k in (n, n + 32)]),
        ("dense", "val", 20, 1, 5, [0] * 10),
    ],
)
def test_sampling_of_validation_and_tests_follows_the_table(
    rule: str, phase: str, images: int, segments: int, length: int, starts: list[int]
) -> None:
    assert getattr(SAMPLING_STRATEGIES[rule], phase)(images, segments, length).tolist() == starts


def test_sampling_of_25_snippets_is_that_of_the_paper() -> None:
    # eval_net.py: step = (N - 1) / 24 in whole numbers, from the first frame on
    assert SAMPLING_STRATEGIES["caffe"].test(121, 25, 1).tolist() == list(range(0, 121, 5))


def test_dense_sampling_of_a_short_video_draws_nothing() -> None:
    def draw(bound: int, count: int) -> NDArray[np.int64]:
        raise AssertionError("theirs draws only where a range has more than one place")

    assert SAMPLING_STRATEGIES["dense"].train(64, 4, 1, draw).tolist() == [0, 16, 32, 48]


def test_dense_sampling_draws_one_number() -> None:
    asked = []

    def draw(bound: int, count: int) -> NDArray[np.int64]:
        asked.append((bound, count))
        return np.full(count, bound - 1)

    # 37 places, the last of which is never drawn
    assert SAMPLING_STRATEGIES["dense"].train(100, 2, 1, draw).tolist() == [35, 67]
    assert asked == [(36, 1)]


def test_images_past_the_end_follow_the_strategy() -> None:
    assert images_of(np.array([0, 5]), 4, 7).tolist() == [[0, 1, 2, 3], [5, 6, 6, 6]]
    assert images_of(np.array([0, 5]), 4, 7, "loop").tolist() == [[0, 1, 2, 3], [5, 6, 0, 1]]
    assert images_of(np.array([0]), 5, 1).tolist() == [[0, 0, 0, 0, 0]]


SIZES = {
    "images": st.integers(1, 400),
    "segments": st.integers(1, 30),
    "length": st.integers(1, 12),
}


@pytest.mark.parametrize("rule", SAMPLING_STRATEGIES)
@given(**SIZES, seed=st.integers(0, 99))
def test_every_snippet_lies_inside(
    rule: str, images: int, segments: int, length: int, seed: int
) -> None:
    row = SAMPLING_STRATEGIES[rule]
    ranges = DENSE_POSITIONS if rule == "dense" else 1
    for starts, snippets in (
        (row.train(images, segments, length, legacy(seed)), segments),
        (row.val(images, segments, length), segments * ranges),
        (row.test(images, segments, length), segments * ranges),
    ):
        assert starts.shape == (snippets,) and starts.dtype == np.int64
        assert starts.min() >= 0
        assert rule == "dense" or np.all(np.diff(starts) >= 0)
        if row.tail == "repeat":
            assert starts.max() < images
            # Only a video shorter than a snippet has to repeat anything.
            assert images < length or starts.max() + length <= images
        wanted = images_of(starts, length, images, row.tail)
        assert wanted.shape == (snippets, length) and wanted.min() >= 0 and wanted.max() < images


@pytest.mark.parametrize("rule", ["tsn_pytorch", "caffe", "mmaction2"])
def test_the_drawing_in_the_docstring_shows_the_sampled_images(rule: str) -> None:
    strategy, images, segments, length = SAMPLING_STRATEGIES[rule], 31, 3, 4
    train = ["."] * images
    for drawn in range(images):
        starts = strategy.train(images, segments, length, highest(drawn))
        for snippet, start in enumerate(starts.tolist()):
            train[start] = str(snippet)
    drawing = [f"{rule:12} train  {''.join(train)}"]
    for phase in ("val", "test"):
        line = ["."] * images
        for snippet, start in enumerate(getattr(strategy, phase)(images, segments, length)):
            line[start : start + length] = str(snippet) * length
        drawing.append(f"{'':12} {phase:5}  {''.join(line)}")
    documented = [line[4:] for line in (sampling.__doc__ or "").splitlines()]
    place = documented.index(drawing[0])
    assert documented[place : place + 3] == drawing
