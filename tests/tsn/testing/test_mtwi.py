"""Multi-scale temporal window integration against hand-worked videos, in both variants."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.tsn.testing import mtwi


def scores(*values: float) -> np.ndarray:
    """Snippets with one crop and one class."""
    return np.array(values, float)[:, None, None]


def test_snippets_are_placed_by_time_not_by_number() -> None:
    pts_s = np.array([0.5, 0.9, 1.4, 1.5, 2.2, 2.6, 4.4, 4.5])
    # wanted: 0.5, 1.5, 2.5, 3.5, 4.5
    assert mtwi.starts_at(pts_s, 1.0).tolist() == [0, 3, 5, 6, 7]
    assert mtwi.starts_at(np.arange(100) / 25, 1.0).tolist() == [0, 25, 50, 75]
    assert mtwi.starts_at(np.arange(100) / 25, 2.5).tolist() == list(range(0, 100, 10))
    assert mtwi.starts_at(np.arange(100) / 25, 0.5).tolist() == [0, 50]
    assert mtwi.starts_at(np.array([7.0]), 1.0).tolist() == [0]


def test_one_window_of_each_length_is_the_maximum() -> None:
    # Four snippets: of length 4 floor(4 / 3.2) = 1 window, of 16 too, by the paper.
    assert mtwi.aggregate(scores(1, 5, 2, 3), (4,), "paper") == [5]
    assert mtwi.aggregate(scores(1, 5, 2, 3), (16,), "paper") == [5]


def test_mtwi_of_the_paper_is_that_worked_out_by_hand() -> None:
    # l = 2, M = 8: N = floor(8 / 1.6) = 5 windows from floor(1.6 k) = 0, 1, 3, 4, 6 on, each the
    # larger of two: max(0,9), max(9,1), max(4,2), max(2,3), max(7,5)
    video = scores(0, 9, 1, 4, 2, 3, 7, 5)
    assert mtwi.aggregate(video, (2,), "paper") == pytest.approx((9 + 9 + 4 + 3 + 7) / 5)
    # l = 1: N = 10 windows from floor(0.8 k) = 0 0 1 2 3 4 4 5 6 7 on
    assert mtwi.aggregate(video, (1,), "paper") == pytest.approx(
        (0 + 0 + 9 + 1 + 4 + 2 + 2 + 3 + 7 + 5) / 10
    )
    both = mtwi.aggregate(video, (1, 2), "paper")
    assert both == pytest.approx((32 / 5 + 33 / 10) / 2)


def test_mtwi_of_the_authors_code_is_that_worked_out_by_hand() -> None:
    # l = 2: stride ceil(1.6) = 2: max(0,9), max(1,4), max(2,3), max(7,5)
    video = scores(0, 9, 1, 4, 2, 3, 7, 5)
    assert mtwi.aggregate(video, (2,), "code") == pytest.approx((9 + 4 + 3 + 7) / 4)
    # l = 4: stride ceil(3.2) = 4; l = 16: stride 13, one window cut short
    assert mtwi.aggregate(video, (4,), "code") == pytest.approx((9 + 7) / 2)
    assert mtwi.aggregate(video, (16,), "code") == pytest.approx(9)
    # l = 8: stride 7: windows from 0 and 7
    assert mtwi.aggregate(video, (8,), "code") == pytest.approx((9 + 5) / 2)


def test_crops_are_averaged_in_the_paper_and_maximised_in_the_code() -> None:
    crops = np.array([[[1.0], [3.0]]])
    assert mtwi.aggregate(crops, (1,), "paper") == [2]
    assert mtwi.aggregate(crops, (1,), "code") == [3]


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_only_the_best_quarter_counts_and_at_least_15(variant: mtwi.Variant) -> None:
    # 400 snippets, 20 of them 1 and the rest 0: of windows of one snippet 100 (code) or 125 (paper:
    # every fifth snippet twice) count, 20 or 25 of which are 1.
    video = np.zeros((400, 1, 1))
    video[100:120] = 1
    expected = {"paper": 25 / 125, "code": 20 / 100}[variant]
    assert mtwi.aggregate(video, (1,), variant) == pytest.approx(expected)
    short = mtwi.aggregate(video[100:130], (1,), variant)  # 30 or 37 windows: 15 count
    assert short == [1]


def test_background_does_not_drown_a_short_action() -> None:
    rng = np.random.default_rng(0)
    video = rng.normal(0, 1, (300, 1, 2))
    video[140:150, 0, 1] += 6  # ten seconds of class 1 in five minutes
    video[:, 0, 0] += 0.5  # background looks like class 0
    assert video.mean((0, 1)).argmax() == 0
    for variant in ("paper", "code"):
        assert mtwi.aggregate(video, (1, 2, 4, 8, 16), variant).argmax() == 1


def test_classes_do_not_mix() -> None:
    rng = np.random.default_rng(1)
    video = rng.normal(size=(40, 3, 4))
    together = mtwi.aggregate(video, (1, 2, 4))
    alone = [mtwi.aggregate(video[:, :, k : k + 1], (1, 2, 4))[0] for k in range(4)]
    np.testing.assert_allclose(together, alone)


@pytest.mark.parametrize("length", [1, 2, 4, 8, 16, 5, 11])
def test_the_default_windows_cover_every_video(length: int) -> None:
    for count in range(1, 200):
        covered = {k for one in mtwi.windows_of(count, length, "code") for k in one}
        assert covered == set(range(count))
        # A score that stands out counts wherever it is, the last snippet included.
        video = np.zeros((count, 1, 1))
        video[-1] = 1
        assert mtwi.aggregate(video, (length,), consensus="max") == [1]


def test_the_windows_of_the_paper_leave_out_the_end() -> None:
    left_out = []
    for length in (1, 2, 4, 8, 16):
        for count in range(1, 500):
            windows = mtwi.windows_of(count, length, "paper")
            covered = sorted({k for one in windows for k in one})
            assert covered == list(range(len(covered)))
            assert count - len(covered) < 0.6 * length + 1
            left_out.append((count - len(covered)) / length)
    assert max(left_out) > 0.5


def test_the_consensus_of_windows_is_that_worked_out_by_hand() -> None:
    # l = 2: windows of snippets 0 1, 2 3, 4 5, 6 7 with 9, 4, 3, 7
    video = scores(0, 9, 1, 4, 2, 3, 7, 5)
    assert mtwi.aggregate(video, (2,), consensus="average") == pytest.approx(23 / 4)
    assert mtwi.aggregate(video, (2,), consensus="max") == [9]
    assert mtwi.aggregate(video, (2,), top_k=2) == [8]
    assert mtwi.aggregate(video, (2,), top_k=99) == pytest.approx(23 / 4)
    relevance = np.log([1, 3, 2, 1, 5, 1, 1, 1.0])  # of windows: 3, 2, 5, 1
    assert mtwi.aggregate(video, (2,), consensus="attention", relevance=relevance) == pytest.approx(
        (3 * 9 + 2 * 4 + 5 * 3 + 1 * 7) / 11
    )
    even = mtwi.aggregate(video, (2,), consensus="attention", relevance=np.full(8, 1e4))
    assert even == pytest.approx(23 / 4), "large relevance does not overflow"


def test_relevance_may_have_any_range() -> None:
    relevance = np.array([-2000.0, 2000.0, 0.0])
    assert mtwi.aggregate(scores(1, 5, 2), (1,), consensus="attention", relevance=relevance) == [5]


def test_attention_of_windows_suppresses_background() -> None:
    rng = np.random.default_rng(0)
    video = rng.normal(0, 1, (300, 1, 2))
    video[140:150, 0, 1] += 2
    video[:, 0, 0] += 0.5
    relevance = np.zeros(300)
    relevance[140:150] = 10
    windows = (1, 2, 4, 8, 16)
    found = mtwi.aggregate(video, windows, consensus="attention", relevance=relevance)
    assert found.argmax() == 1
    assert mtwi.aggregate(video, windows, consensus="average").argmax() == 0
