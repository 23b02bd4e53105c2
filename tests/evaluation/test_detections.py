"""Temporal detections: the figures of the official codes, recorded and by hand; files of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detection_cases import write_activitynet, write_json, write_text, write_thumos14
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowpipe.datasets.annotations import read_annotations
from flowpipe.errors import DatasetError, FormatError, UsageError
from flowpipe.evaluation.detection_protocols import DETECTION_PROTOCOLS, evaluate_detections
from flowpipe.evaluation.detections import (
    Detections,
    has_detections,
    match_ids,
    read_detections,
    write_detections,
)
from flowpipe.evaluation.instances import select_instances
from flowpipe.evaluation.tiou import overlap_over_hull, temporal_iou
from flowpipe.types import Interval, VideoRecord

CLASSES = ("Diving", "GolfSwing")
RECORDED = {
    # What the official codes print for detection_cases, run by benchmarks/detection_kits.py:
    # TH14evalDet.m of github.com/wanglimin/UntrimmedNet at 76ec6a3 in Octave 7.3;
    # TH14evaldet.m and TH14eventdetpr.m of the kit of 2014, the same, up to its last tIoU of 0.5;
    # eval_detection.py of github.com/activitynet/ActivityNet at 82304fa.
    "thumos14-detection": [
        [0.80416667, 0.80416667, 0.80416667, 0.525, 0.35, 0.35, 0.25],
        [0.80416667] * 7,
    ],
    "thumos14-detection-11": [
        [0.85454545, 0.85454545, 0.85454545, 0.54545455, 0.40909091],
        [0.85454545] * 5,
    ],
    "activitynet-detection": [
        [0.33928571, *[0.20833333] * 3, *[0.125] * 3, 0.08333333, 0.08333333, 0.0],
        [*[0.66666667] * 6, 0.45, 0.45, 0.0, 0.0],
    ],
}


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("thumos14-detection", "d.json"),
        ("thumos14-detection", "d.txt"),
        ("thumos14-detection-11", "d.json"),
        ("thumos14-detection-11", "d.txt"),
        ("activitynet-detection", "d.json"),
    ],
)
def test_figures_are_those_of_the_official_codes(name: str, file_name: str, tmp_path: Path) -> None:
    if name == "activitynet-detection":
        dataset, split = read_annotations(write_activitynet(tmp_path / "truth.json")), "val1"
    else:
        dataset, split = read_annotations(write_thumos14(tmp_path / "truth")), "test1"
    path = tmp_path / file_name
    (write_text if path.suffix == ".txt" else write_json)(path)
    result = evaluate_detections(
        DETECTION_PROTOCOLS[name],
        read_detections(path, dataset.class_names),
        select_instances(dataset.absent, split),
    )
    assert [dataset.class_names[label] for label in result.labels] == list(CLASSES)
    recorded = np.array(RECORDED[name]).T
    assert result.by_class[: len(recorded)] == pytest.approx(recorded, abs=1e-8)
    assert result.average == pytest.approx(result.by_class.mean())


INSTANCES = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 2), st.integers(0, 20), st.integers(1, 20)
    ),
    min_size=1, max_size=12, unique=True,
)  # fmt: skip


def records_of(instances: list[tuple[int, int, int, int]]) -> list[VideoRecord]:
    """Return videos with the instances (video, label, start, length)."""
    return [
        VideoRecord(
            f"video {video}",
            "",
            segments=tuple(
                Interval(label, start, start + length)
                for one, label, start, length in instances
                if one == video
            ),
        )
        for video in range(4)
    ]


def detections_of(records: list[VideoRecord], scores: list[float]) -> Detections:
    """Return the instances of the records as detections."""
    rows = [(record.video_id, one) for record in records for one in record.segments]
    return Detections(
        "d.json",
        tuple(video_id for video_id, _ in rows),
        np.array([one.label for _, one in rows]),
        np.array([(one.start_s, one.end_s) for _, one in rows], np.float64),
        np.array(scores, np.float64),
    )


@pytest.mark.parametrize("name", DETECTION_PROTOCOLS)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(instances=INSTANCES, seed=st.integers(0, 9))
def test_perfect_detections_have_100_percent_and_false_ones_lower_it(
    name: str, instances: list[tuple[int, int, int, int]], seed: int
) -> None:
    records = records_of(instances)
    truth, protocol = select_instances(records, "all"), DETECTION_PROTOCOLS[name]
    scores = np.random.default_rng(seed).random(len(instances))
    found = detections_of(records, scores.tolist())
    strict = (0.6, 0.9)  # above 0.5 only one instance of those that do not overlap fits
    assert evaluate_detections(protocol, found, truth, strict).average == 1
    false = Detections(
        "d.json",
        ("other", *found.video_ids),
        np.append(found.labels[0], found.labels),
        np.vstack([[[0, 9]], found.intervals]),
        np.append(2, found.scores),
    )
    lowered = evaluate_detections(protocol, false, truth, strict)
    column = lowered.labels.index(int(found.labels[0]))
    assert (lowered.by_class[:, column] < 1).all()
    assert (np.delete(lowered.by_class, column, axis=1) == 1).all()


def test_tiou_by_hand() -> None:
    first, second = np.array([[0.0, 10], [5, 5]]), np.array([[5.0, 15], [10, 12], [5, 5]])
    assert temporal_iou(first, second) == pytest.approx(np.array([[1 / 3, 0, 0], [0, 0, 1]]))
    assert temporal_iou(first[1:], np.array([[7.0, 7]])) == 1  # NaN in the official code: a match
    assert overlap_over_hull(first, second) == pytest.approx(np.array([[1 / 3, 0, 0], [0, 0, 0]]))


def test_a_file_that_is_written_reads_as_it_was(tmp_path: Path) -> None:
    found = read_detections(write_json(tmp_path / "1.json"), CLASSES)
    write_detections(tmp_path / "2.json", found, CLASSES, {"weights": [1, 1.5]})
    again = read_detections(tmp_path / "2.json", CLASSES)
    assert again.video_ids == found.video_ids
    for name in ("labels", "intervals", "scores"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
    content = json.loads((tmp_path / "2.json").read_text())
    assert content["version"] == "VERSION 1.3" and content["external_data"]["weights"] == [1, 1.5]


def test_ids_are_known_with_and_without_the_prefix_of_youtube_ids(tmp_path: Path) -> None:
    plain = read_detections(write_json(tmp_path / "1.json"), CLASSES)
    prefixed = read_detections(write_json(tmp_path / "2.json", prefix="v_"), CLASSES)
    known = set(plain.video_ids) - {"video_test_0000008"}
    assert match_ids(prefixed, known).video_ids[0] == plain.video_ids[0]
    assert "v_video_test_0000008" in match_ids(prefixed, known).video_ids  # unknown
    assert match_ids(plain, {f"v_{key}" for key in known}).video_ids[0] == prefixed.video_ids[0]
    both = Detections("d.json", ("a", "v_a"), *(np.zeros(n) for n in (2, (2, 2), 2)))
    with pytest.raises(FormatError, match="d.json has both v_a and a, which are one video"):
        match_ids(both, {"a"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold an object"),
        ('{"database": {}}', 'wanted {"results": .*, got an object with database'),
        ('{"results": [1]}', "got results of type list"),
        ('{"results": {}}', "has no detections; wanted at least one"),
        ('{"results": {"a": []}}', "has no detections"),
        ('{"results": {"a": {}}}', "video a: wanted a list"),
        ('{"results": {"a": [{"label": "Diving", "score": 1}]}}', "video a, detection 0: wanted"),
        ('{"results": {"a": [{"label": "Diving", "score": 1, "segment": [1]}]}}', "detection 0"),
        ('{"results": {"a": [{"label": "Divin", "score": 1, "segment": [1, 2]}]}}',
         "has no detection of a known class: 'Divin' is no class; did you mean Diving"),
        ('{"results": {"a": [{"label": 7, "score": 1, "segment": [1, 2]}]}}',
         "video a, detection 0: wanted the name of a class, got 7"),
        ('{"results": {"a": [{"label": "Diving", "score": 1, "segment": [-1, 2]}]}}',
         r"0 <= start <= end in seconds, got \[-1, 2\]; clip it"),
        ('{"results": {"a": [{"label": "Diving", "score": 1, "segment": [3, 2]}]}}', r"\[3, 2\]"),
        ('{"results": {"a": [{"label": "Diving", "score": 1, "segment": [0, NaN]}]}}', "nan"),
        ('{"results": {"a": [{"label": "Diving", "score": null, "segment": [0, 1]}]}}',
         "wanted a finite score, got None"),
    ],
)  # fmt: skip
def test_wrong_json_is_described(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        read_detections(path, CLASSES)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 2 3", "d.txt:2: wanted 'video_id start end class_number score'.*got 4 fields"),
        ("a 1 2 3 0.5", "d.txt:2: wanted a class number from 1 to 2, got '3'"),
        ("a 1 2 Diving 0.5", "class number from 1 to 2, got 'Diving'"),
        ("a 2 1 1 0.5", r"0 <= start <= end in seconds, got \[2, 1\]"),
        ("a 1 2 1 high", "finite score, got high"),
    ],
)
def test_a_wrong_line_is_described(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text(f"a 1 2 1 0.5\n{line}\n")
    with pytest.raises(FormatError, match=message):
        read_detections(tmp_path / "d.txt", CLASSES)


def test_an_instance_that_ends_before_it_starts_is_no_ground_truth() -> None:
    records = [VideoRecord("a", "", segments=(Interval(0, 3.0, 2.0),))]
    with pytest.raises(
        UsageError, match=r"instance of video a: wanted .*, got \[3.0, 2.0\]; correc"
    ):
        select_instances(records, "all")


def test_detections_are_told_from_scores(tmp_path: Path) -> None:
    assert has_detections(write_text(tmp_path / "d.txt"), 20)
    # a line of 4 scores has five fields too
    assert not has_detections(tmp_path / "d.txt", 4)
    (tmp_path / "scores.txt").write_text("a 0.1 0.2 0.3 0.4\nb 1 0 1 0\nvideo 0 1 0 1\n")
    assert not has_detections(tmp_path / "scores.txt", 20)
    assert not has_detections(tmp_path / "scores.npz", 20)


def test_annotations_are_read_in_the_order_of_the_files(tmp_path: Path) -> None:
    dataset = read_annotations(write_thumos14(tmp_path / "truth"))
    first = dataset.absent[0]
    assert [one.start_s for one in first.segments] == [30, 10, 21, 50]
    assert first.splits == ("test1",) and dataset.absent[1].ambiguous == ((20, 25),)
    path = write_activitynet(
        tmp_path / "gt.json",
        taxonomy=[{"nodeName": n, "parentName": "Sports"} for n in (*CLASSES, "Archery")],
    )
    (tmp_path / "blocked.json").write_text('["video_test_0000006"]')
    dataset = read_annotations(path)
    assert dataset.class_names == ("Archery", *CLASSES)
    assert [record.splits for record in dataset.absent] == [("val1",), (), ("val1",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"results": {}}', 'wanted {"database": .*, got an object with the keys results'),
        ('{"database": {"a": {"annotations": []}}}', "video a: wanted .*subset"),
        ('{"database": {"a": {"subset": "test", "annotations": [{"segment": [1, 2]}]}}}', "label"),
        ('{"database": {"a": {"subset": "test", "annotations": [{"label": "b", "segment": [1]}]}}}',
         "video a"),
    ],
)  # fmt: skip
def test_wrong_annotations_are_described(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_annotations(tmp_path / "truth.json")
    with pytest.raises(DatasetError, match="is no store and has no annotations"):
        read_annotations(tmp_path)
