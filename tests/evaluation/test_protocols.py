"""Figures of papers, compared with examples worked out by hand and with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flowpipe.datasets import DATASETS, published_test
from flowpipe.evaluation import PROTOCOLS, evaluate
from flowpipe.evaluation.accuracy import class_accuracy, hit_rate
from flowpipe.evaluation.ranking import (
    average_precision,
    interpolated_average_precision,
    tied_average_precision,
)

# Seven videos in the order of their scores; 1 = positive:   1    0    1    1    0    0    1
# precision at each rank:                                   1/1  1/2  2/3  3/4  3/5  3/6  4/7
HITS = np.array([1, 0, 1, 1, 0, 0, 1], bool)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
PLAIN = (1 + 2 / 3 + 3 / 4 + 4 / 7) / 4
# The envelope lifts 2/3 at the second positive to the 3/4 that comes after it.
INTERPOLATED = (1 + 3 / 4 + 3 / 4 + 4 / 7) / 4


@pytest.fixture(scope="module")
def metrics():
    """Those of scikit-learn, which takes a second to load: every process collects this file."""
    from sklearn import metrics

    return metrics


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=bool)[labels]


def test_average_precision_is_that_worked_out_by_hand():
    shuffled = np.random.default_rng(0).permutation(7)
    for order in (np.arange(7), shuffled):
        scores, hits = SCORES[order], HITS[order]
        assert average_precision(scores, hits) == pytest.approx(PLAIN)
        assert tied_average_precision(scores, hits) == pytest.approx(PLAIN)
        assert interpolated_average_precision(scores, hits) == pytest.approx(INTERPOLATED)
    assert PLAIN == pytest.approx(0.7470, abs=1e-4)
    assert INTERPOLATED == pytest.approx(0.7679, abs=1e-4)
    for of_class in (average_precision, tied_average_precision, interpolated_average_precision):
        assert of_class(SCORES, np.ones(7, bool)) == 1
        assert np.isnan(of_class(SCORES, np.zeros(7, bool)))


def test_equal_scores_keep_the_order_of_the_videos_or_count_together(metrics):
    scores, hits = np.array([0.5, 0.5, 0.1]), np.array([False, True, True])
    # In order: precision 1/2 and 2/3. Together: two videos of which one is right, then 2/3.
    assert average_precision(scores, hits) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert average_precision(scores[[1, 0, 2]], hits[[1, 0, 2]]) == pytest.approx((1 + 2 / 3) / 2)
    for order in ([0, 1, 2], [1, 0, 2]):
        assert tied_average_precision(scores[order], hits[order]) == pytest.approx(7 / 12)
        assert metrics.average_precision_score(hits[order], scores[order]) == pytest.approx(7 / 12)


@settings(deadline=None)
@given(
    arrays.arrays(np.float64, st.integers(2, 60), elements=st.integers(0, 12).map(float)),
    st.randoms(),
)
def test_average_precision_is_scikit_learns(metrics, scores, random):
    hits = np.array([random.random() < 0.4 for _ in scores])
    hits[random.randrange(len(hits))] = True
    expected = metrics.average_precision_score(hits, scores)
    assert tied_average_precision(scores, hits) == pytest.approx(expected)
    if len(np.unique(scores)) == len(scores):
        assert average_precision(scores, hits) == pytest.approx(expected)
    distinct = np.random.default_rng(len(scores)).permutation(len(scores)).astype(float)
    plain = average_precision(distinct, hits)
    assert plain == pytest.approx(metrics.average_precision_score(hits, distinct))
    assert interpolated_average_precision(distinct, hits) >= plain - 1e-12


def test_accuracy_is_that_worked_out_by_hand():
    scores = np.array([[3, 2, 1], [3, 2, 1], [1, 2, 3], [1, 3, 2.0]])
    labels = np.array([0, 0, 0, 1])
    # Three of class 0: two right; one of class 1: right; none of class 2.
    result = evaluate(PROTOCOLS["accuracy"], scores, one_hot(labels, 3))
    assert result.figures["accuracy"] == 3 / 4
    assert result.figures["mean class accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert result.by_class.tolist()[:2] == [2 / 3, 1.0] and np.isnan(result.by_class[2])
    assert hit_rate(scores, one_hot(labels, 3), 2) == 3 / 4
    assert hit_rate(scores, one_hot(labels, 3), 3) == 1
    for classes, names in ((5, ()), (6, ("top-5 accuracy",))):
        more = np.pad(scores, ((0, 0), (0, classes - 3)))
        figures = evaluate(PROTOCOLS["kinetics"], more, one_hot(labels, classes)).figures
        assert list(figures) == ["accuracy", *names, "mean class accuracy"]


def test_of_equal_scores_the_lower_class_is_chosen():
    scores = np.array([[1.0, 1.0, 0.0]])
    assert hit_rate(scores, one_hot(np.array([0]), 3), 1) == 1
    assert hit_rate(scores, one_hot(np.array([1]), 3), 1) == 0


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 4))
def test_accuracies_are_scikit_learns(metrics, seed, classes, k):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(50, classes))
    labels = np.concatenate((np.arange(classes), rng.integers(0, classes, 50 - classes)))
    positives = one_hot(labels, classes)
    assert np.nanmean(class_accuracy(scores, positives)) == pytest.approx(
        metrics.balanced_accuracy_score(labels, scores.argmax(1))
    )
    if k < classes and classes > 2:
        expected = metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(classes))
        assert hit_rate(scores, positives, k) == pytest.approx(expected)


def test_background_videos_are_negatives_of_every_class():
    # Two classes; the third video is background and its score of class 0 is the highest.
    scores = np.array([[0.8, 0.1], [0.2, 0.9], [0.9, 0.3]])
    positives = np.array([[True, False], [True, True], [False, False]])
    result = evaluate(PROTOCOLS["thumos14"], scores, positives)
    # Class 0: background, right, right -> (1/2 + 2/3) / 2. Class 1: right first -> 1.
    assert result.by_class.tolist() == pytest.approx([7 / 12, 1])
    assert result.figures["mAP"] == pytest.approx((7 / 12 + 1) / 2)
    without = evaluate(PROTOCOLS["thumos14"], scores[:2], positives[:2])
    assert without.figures["mAP"] == 1


def test_the_figure_of_activitynet_is_that_worked_out_by_hand():
    scores = np.array([[0.9, 0.4, 0.3, 0.2], [0.8, 0.6, 0.7, 0.5], [0.7, 0.1, 0.2, 0.6]])
    positives = np.zeros((3, 4), bool)
    positives[[0, 1, 2, 2], [0, 3, 0, 3]] = True
    # Class 0: 1 0 1, envelope 1 and 2/3. Class 3: scores .5 (0.2 last) -> 1 1 0: 1. Others: none.
    # Hit@3: video 0 yes; video 1 has 0 2 1 before 3, no; video 2 yes.
    result = evaluate(PROTOCOLS["activitynet"], scores, positives)
    assert result.by_class[[0, 3]].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1])
    assert np.isnan(result.by_class[[1, 2]]).all()
    assert result.figures == pytest.approx({"mAP": (5 / 6 + 1) / 2, "Hit@3": 2 / 3})


def test_tsn_differs_from_activitynet_by_the_interpolation(metrics):
    rng = np.random.default_rng(3)
    scores, positives = rng.normal(size=(200, 6)), rng.random((200, 6)) < 0.2
    official = evaluate(PROTOCOLS["activitynet"], scores, positives).figures
    tsn = evaluate(PROTOCOLS["tsn-map"], scores, positives).figures
    assert tsn["mAP"] == pytest.approx(
        metrics.average_precision_score(positives, scores, average="macro")
    )
    assert official["mAP"] > tsn["mAP"]
    assert official["Hit@3"] == tsn["Hit@3"]
    thumos = evaluate(PROTOCOLS["thumos14"], scores, positives).figures
    assert thumos["mAP"] == pytest.approx(tsn["mAP"])  # no equal scores


def test_every_data_set_has_a_protocol():
    assert {row.test.protocol for row in DATASETS.values()} < set(PROTOCOLS)
    names = ("ucf101", "hmdb51", "kinetics400", "demo", "activitynet-1.3", "thumos14", "frames", "")
    assert [published_test(name).protocol for name in names] == [
        "accuracy", "accuracy", "kinetics", "accuracy", "activitynet", "thumos14", "accuracy",
        "accuracy",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="one shape"):
        evaluate(PROTOCOLS["accuracy"], np.zeros((2, 3)), np.zeros((2, 3), bool))
