"""Files of scores: THUMOS's text form and .npz are read, wrong files refused."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.errors import FormatError, UsageError
from flowpipe.evaluation import read_scores, select_ground_truth
from flowpipe.evaluation import test_splits as splits_of
from flowpipe.types import VideoRecord


@pytest.mark.parametrize(
    "text",
    [
        "video_test_0000001 0.5 -1e3 3\nvideo_test_0000002\t1 2 3\n",
        "id,a,b,c\r\nvideo_test_0000001,0.5,-1000,3\r\nvideo_test_0000002, 1, 2, 3\r\n\r\n",
        "video_test_0000001  0.5  -1000  3\nvideo_test_0000002 1.0 2.0 3.0",
    ],
)
def test_the_text_forms_of_scores_are_read(tmp_path, text):
    path = tmp_path / "scores.txt"
    path.write_text(text, newline="")
    scores = read_scores(path, 3)
    assert scores.video_ids == ("video_test_0000001", "video_test_0000002")
    assert scores.values.tolist() == [[0.5, -1000, 3], [1, 2, 3]]
    values, missing = scores.of(["video_test_0000002", "gone"])
    assert values.tolist() == [[1, 2, 3]] and missing == ("gone",)


def test_npz_keeps_ids_with_spaces(tmp_path):
    path = tmp_path / "scores.txt"
    path.write_text("take 2, again 0.5 1\n--dash 3 4\n")
    assert read_scores(path, 2).video_ids == ("take 2, again", "--dash")
    scores = read_scores(path, 2)
    np.savez(tmp_path / "scores.npz", video_ids=list(scores.video_ids), scores=scores.values)
    again = read_scores(tmp_path / "scores.npz", 2)
    assert again.video_ids == scores.video_ids
    assert np.array_equal(again.values, scores.values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2 3\nb 1 2\n", r"scores.txt:2: wanted a video id and 3 scores, got 2 scores"),
        ("a 1 2 3\nb 1 x 2\n", r"scores.txt:2: wanted .*'x'"),
        ("a 1 2 3\na 1 2 3\n", "1 id twice: a"),
        ("a 1 nan 3\n", "1 video with scores that are not finite: a"),
        ("\n", "has no line"),
    ],
)
def test_wrong_text_files_are_refused_with_their_line(tmp_path, text, message):
    path = tmp_path / "scores.txt"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_scores(path, 3)


def test_wrong_npz_files_are_refused(tmp_path):
    path = tmp_path / "scores.npz"
    np.savez(path, video_ids=["a"], scores=np.zeros((1, 2)))
    with pytest.raises(FormatError, match="wanted 3 scores for each of 1 video,"):
        read_scores(path, 3)
    np.savez(path, ids=["a"])
    with pytest.raises(FormatError, match=r"no \.npz with video_ids"):
        read_scores(path, 3)
    path.write_bytes(b"PK nothing")
    with pytest.raises(FormatError, match=r"no \.npz with video_ids"):
        read_scores(path, 3)


def test_the_ground_truth_is_that_of_the_split():
    records = [
        VideoRecord("b", "", labels=(1,), splits=("test1", "train2")),
        VideoRecord("a", "", labels=(0, 2), splits=("test1", "test2")),
        VideoRecord("background", "", splits=("test1",)),
        VideoRecord("withheld", "", splits=("test3",)),
        VideoRecord("blocked", "", labels=(1,)),
    ]
    assert splits_of(records) == ("test1", "test2")
    truth = select_ground_truth(records, "test1", 3)
    assert truth.video_ids == ("a", "b", "background")
    assert truth.positives.tolist() == [[True, False, True], [False, True, False], [False] * 3]
    assert splits_of(records[4:]) == ("all",)
    assert select_ground_truth(records, "all", 3).positives.sum() == 4
    with pytest.raises(UsageError, match="split test3 has 1 video and no label.* test1, test2"):
        select_ground_truth(records, "test3", 3)
