"""Localisation: proposals, soft-NMS, an action between background, weights, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import in_process
from feature_making import CLASSES, make_features
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowpipe.errors import UsageError
from flowpipe.evaluation.detections import read_detections
from flowpipe.features import Extent, cut_windows, open_features
from flowpipe.localisation import LocalisationParams, fuse_streams, localise_video
from flowpipe.localisation.grouping import group_rows, smooth_rows
from flowpipe.localisation.localise import PROPOSAL_SCORES
from flowpipe.localisation.soft_nms import soft_nms
from flowpipe.types import VideoRecord

DRAWN = np.array([1, 1, 4, 8, 5, 7, 9, 6, 3, 2, 1, 1, 1], np.float64)
"""Scores of the drawing in `flowpipe.localisation.grouping`."""


def test_runs_are_those_of_the_drawing() -> None:
    for threshold, proposals in ((7.5, [(3, 4), (6, 7)]), (4.5, [(3, 8)]), (2.5, [(2, 9)])):
        assert group_rows(DRAWN, [(threshold - 1) / 8]).tolist() == [
            list(rows) for rows in proposals
        ]
    everything = group_rows(DRAWN, [(t - 1) / 8 for t in (7.5, 4.5, 2.5, 2.4)])
    assert everything.tolist() == [[2, 9], [3, 4], [3, 8], [6, 7]]  # each once
    assert group_rows(np.ones(5), [0.5]).tolist() == [[0, 5]]
    assert group_rows(np.ones(1), [0.5]).tolist() == [[0, 1]]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.floats(0, 0.99))
def test_runs_are_above_the_threshold_and_what_is_beside_them_is_not(
    scores: list[int], threshold: float
) -> None:
    values = np.array(scores, np.float64)
    limit = values.min() + threshold * (values.max() - values.min())
    covered = np.zeros(len(values), bool)
    for first, stop in group_rows(values, [threshold]).tolist():
        assert not covered[max(0, first - 1) : stop + 1].any()  # a row lies between two proposals
        covered[first:stop] = True
    assert np.array_equal(covered, (values > limit) | (values.min() == values.max()))


def test_moving_average_by_hand() -> None:
    scores = np.array([[0.0], [3], [6], [0]])
    assert smooth_rows(scores, 3)[:, 0].tolist() == [1.5, 3, 3, 3]
    assert smooth_rows(scores, 1) is scores


def test_scores_of_a_proposal_by_hand() -> None:
    expected = {"mean": 35 / 5, "peak": 9.0, "contrast": 35 / 5 - (4 + 3) / 2}
    assert {
        name: of_proposal(DRAWN, 3, 8) for name, of_proposal in PROPOSAL_SCORES.items()
    } == expected
    assert PROPOSAL_SCORES["contrast"](DRAWN, 0, 13) == DRAWN.mean()


def test_soft_nms_by_hand() -> None:
    intervals = np.array([[0.0, 10], [0, 10], [5, 15], [20, 30]])
    lowered = soft_nms(intervals, np.array([0.5, 0.8, 0.6, 0.1]), 0.5)
    same, third = np.exp(-1 / 0.5), np.exp(-((1 / 3) ** 2) / 0.5)
    assert lowered == pytest.approx([0.5 * same * third, 0.8, 0.6 * third, 0.1])


@pytest.mark.parametrize("proposal_score", PROPOSAL_SCORES)
@pytest.mark.parametrize("by_class", [False, True])
def test_an_action_between_background_is_found(proposal_score: str, by_class: bool) -> None:
    windows = cut_windows(np.arange(1500) / 25, Extent(10), Extent(5))  # a minute, 5 rows/s
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 0.3, (len(windows), 4))
    inside = (windows.centre_s > 20) & (windows.centre_s < 26)
    scores[inside, 2] += 20
    labels, intervals, confidences = localise_video(
        scores, windows, LocalisationParams(proposal_score=proposal_score), by_class=by_class
    )
    assert labels[0] == 2
    if proposal_score == "peak":  # equal for all proposals with the peak: the longest comes first
        assert intervals[0, 0] <= 20.5 and intervals[0, 1] >= 25.5
    else:
        assert intervals[0] == pytest.approx(
            [20, 26], abs=0.5 if proposal_score == "contrast" else 1
        )
    assert (np.diff(confidences) <= 0).all() and confidences[-1] > 0
    assert (intervals[:, 0] < intervals[:, 1]).all()
    assert intervals.min() >= 0 and intervals.max() <= 60
    only = LocalisationParams(proposal_score=proposal_score, classes=1, most=1)
    assert len(localise_video(scores, windows, only, by_class=by_class)[0]) == 1


def test_a_video_of_one_row_is_one_interval() -> None:
    windows = cut_windows(np.arange(8) / 25, Extent(16), Extent(4))
    labels, intervals, _ = localise_video(
        np.array([[1.0, 3, 2]]), windows, LocalisationParams(classes=1)
    )
    assert labels.tolist() == [1] and intervals == pytest.approx(np.array([[0, 8 / 25]]))


def test_streams_are_averaged_with_weights(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5")
    with open_features(tmp_path / "f.h5") as file:
        total = fuse_streams(file, ["rgb", "flow"], [1, 1.5]).of_video("v/1")
    rgb, flow = made["rgb", "v/1"][1], made["flow", "v/1"][1]
    assert total == pytest.approx((rgb.astype("f8") + 1.5 * flow.astype("f8")) / 2.5)


def test_the_command_writes_what_evaluate_reads(tmp_path: Path) -> None:
    make_features(tmp_path / "f.h5", frames=(200, 300), store="a store")
    out = tmp_path / "found.json"
    done = in_process("localise", tmp_path / "f.h5", "-o", out, "--weights", "1,0.5")
    assert done.returncode == 0, done.stderr
    assert "next: flowpipe evaluate a store" in done.stderr and "flow 0.5" in done.stderr
    found = read_detections(out, CLASSES)
    assert set(found.video_ids) == {"v/1", "video_test_0000001"} and found.intervals.max() <= 12
    facts = json.loads(out.read_text())["external_data"]
    assert facts["streams"]["flow"]["weight"] == 0.5
    assert facts["localisation"]["proposal_score"] == "contrast"
    one = tmp_path / "one.json"
    options = ("--split", "test", "--streams", "flow", "--classes", 1, "--smooth", 0)
    assert in_process("localise", tmp_path / "f.h5", "-o", one, *options).returncode == 0
    assert set(read_detections(one, CLASSES).video_ids) == {"video_test_0000001"}


def test_a_store_without_instances_is_not_named_for_the_evaluation(tmp_path: Path) -> None:
    trimmed = [VideoRecord(name, f"/{name}.mp4", labels=(0,)) for name in ("a", "b")]
    make_features(tmp_path / "f.h5", records=tuple(trimmed), store="a store")
    done = in_process("localise", tmp_path / "f.h5", "-o", tmp_path / "found.json")
    assert done.returncode == 0 and "next: flowpipe evaluate ANNOTATIONS.json" in done.stderr


def test_mistakes_are_described(tmp_path: Path) -> None:
    file, out = tmp_path / "f.h5", tmp_path / "found.json"
    make_features(file)
    (tmp_path / "no.h5").write_bytes(b"")
    for arguments, message in (
        ((tmp_path / "no.h5", "-o", out), "wanted what `flowpipe features` writes"),
        ((file, "-o", tmp_path / "found.txt"), "wanted a name that ends in .json"),
        ((file, "-o", out, "--streams", "rgb,fow"), "stream 'fow' is unknown; did you mean flow"),
        ((file, "-o", out, "--streams", "rgb,rgb"), "names a stream twice"),
        ((file, "-o", out, "--weights", "1"), "--weights must be 2 numbers"),
        ((file, "-o", out, "--split", "tset1"), "split 'tset1' is unknown; did you mean test1?"),
        ((file, "-o", out, "--thresholds", "0.5,1"), "shares from 0 to below 1"),
        ((file, "-o", out, "--rate", "1e300"), "not in the range 0<x<=1000"),
        ((file, "-o", out, "--smooth", "inf"), "wanted a finite number, got inf"),
        ((file, "-o", out, "--thresholds", "high"), "--thresholds must be numbers"),
    ):
        done = in_process("localise", *arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not out.exists()


def test_streams_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_features(tmp_path / "f.h5")
    with open_features(tmp_path / "f.h5") as file:
        facts = file.streams["flow"].facts
        facts["loss"] = "bce"
        with pytest.raises(UsageError, match="rgb and flow were trained with different losses"):
            fuse_streams(file, ["rgb", "flow"], [1, 1])
