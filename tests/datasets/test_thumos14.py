"""THUMOS14: found by its names wherever the archives were unpacked to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowpipe.datasets import DATASETS
from flowpipe.datasets.thumos14 import CLASS_NAMES
from flowpipe.errors import DatasetError
from flowpipe.types import Segment

load = DATASETS["thumos14"].load


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


VIDEOS = (
    "validation/video_validation_0000051.mp4",
    "validation/video_validation_0000052.mp4",
    "TH14_test_set_mp4/video_test_0000004.mp4",
    "TH14_test_set_mp4/video_test_0000270.mp4",
)


def test_subsets_follow_from_the_names(tmp_path):
    put(tmp_path, *VIDEOS, "video_test_notes.txt", "validation/._video_validation_0000051.mp4")
    put(tmp_path, "UCF-101/Diving/v_Diving_g01_c01.avi", "test/video_test_0000004.jpg")
    dataset = load(tmp_path)
    assert [(r.video_id, r.subset) for r in dataset.records] == [
        ("video_test_0000004", "test"),
        ("video_test_0000270", "test"),
        ("video_validation_0000051", "validation"),
        ("video_validation_0000052", "validation"),
    ]
    assert dataset.class_names == CLASS_NAMES
    assert "2 of 1010 official validation videos" in dataset.note
    assert "video_test_0000270: faulty" in dataset.note
    assert "No temporal annotations" in dataset.note
    only = load(tmp_path, subsets=("test",))
    assert {r.subset for r in only.records} == {"test"}


def test_segments_labels_and_missing_videos(tmp_path):
    put(tmp_path, *VIDEOS)
    notes = tmp_path / "TH14_Temporal_annotations_validation" / "annotation"
    write(
        notes / "CliffDiving_val.txt",
        "video_validation_0000051  67.5 75.9\r\nvideo_validation_0000051  0.2 1\r\n",
    )
    write(notes / "Diving_val.txt", "video_validation_0000051  67.5 75.9\n")
    write(notes / "Billiards_val.txt", "video_validation_0000053  1.0 2.0\n\n")
    write(notes / "Ambiguous_val.txt", "video_validation_0000052  3.0 4.0\n")
    write(tmp_path / "test" / "Billiards_test.txt", "video_test_0000009  1.0 2.0\n")
    dataset = load(tmp_path)
    by_id = {r.video_id: r for r in dataset.records}
    cliff, diving = CLASS_NAMES.index("CliffDiving"), CLASS_NAMES.index("Diving")
    assert by_id["video_validation_0000051"].segments == (
        Segment(cliff, 0.2, 1.0), Segment(cliff, 67.5, 75.9), Segment(diving, 67.5, 75.9)
    )  # fmt: skip
    assert by_id["video_validation_0000051"].labels == (cliff, diving)
    assert by_id["video_validation_0000052"].segments == ()
    assert tuple(r.video_id for r in dataset.absent) == (
        "video_test_0000009",
        "video_validation_0000053",
    )
    assert "1 more stretches marked ambiguous" in dataset.note
    assert [r.video_id for r in load(tmp_path, subsets=("test",)).absent] == ["video_test_0000009"]


def test_class_names_from_the_list_of_the_kit(tmp_path):
    put(tmp_path, *VIDEOS)
    write(tmp_path / "detclasslist.txt", "7 BaseballPitch\r\n12 Billiards\r\n")
    write(tmp_path / "Billiards_val.txt", "video_validation_0000051 1.0 2.0\n")
    write(tmp_path / "Diving_val.txt", "video_validation_0000051 1.0 2.0\n")  # not in the list
    dataset = load(tmp_path)
    assert dataset.class_names == ("BaseballPitch", "Billiards")
    assert [r.labels for r in dataset.records if r.labels] == [(1,)]


def test_an_id_with_two_files_is_refused(tmp_path):
    put(tmp_path, *VIDEOS, "copy/video_validation_0000051.mp4", "test/VIDEO_TEST_0000004.AVI")
    with pytest.raises(DatasetError, match="2 videos .* more than one file") as caught:
        load(tmp_path)
    assert str(tmp_path / "copy/video_validation_0000051.mp4") in str(caught.value)
    assert str(tmp_path / "validation/video_validation_0000051.mp4") in str(caught.value)


def test_a_second_copy_of_an_annotation_must_agree(tmp_path):
    put(tmp_path, *VIDEOS)
    for folder in ("a", "b"):
        write(tmp_path / folder / "Diving_val.txt", "video_validation_0000051 1.0 2.0\n")
    assert sum(len(r.segments) for r in load(tmp_path).records) == 1
    write(tmp_path / "b" / "Diving_val.txt", "video_validation_0000051 1.0 3.0\n")
    with pytest.raises(DatasetError, match="differ"):
        load(tmp_path)


@pytest.mark.parametrize(
    "row", ["video_validation_51 1 2", "video_validation_0000051 2.0 1.0", "x"]
)
def test_bad_annotation_rows_are_named(tmp_path, row):
    put(tmp_path, *VIDEOS)
    write(tmp_path / "Diving_val.txt", f"video_validation_0000051 1.0 2.0\n{row}\n")
    with pytest.raises(DatasetError, match=r"Diving_val\.txt:2 must read"):
        load(tmp_path)


def test_nothing_there_says_what_was_wanted(tmp_path):
    with pytest.raises(
        DatasetError, match="video_validation_0000001.mp4 or video_test_0000001.mp4"
    ):
        load(tmp_path)
    put(tmp_path, "TH14_validation_set_mp4.zip")
    with pytest.raises(DatasetError, match="unpack .*TH14_validation_set_mp4.zip first"):
        load(tmp_path)
    with pytest.raises(DatasetError, match="subsets must be some of"):
        load(tmp_path, subsets=("training",))


def test_official_annotations_have_the_published_counts(shared_data, tmp_path):
    shutil.copytree(shared_data / "annotations" / "thumos14", tmp_path / "annotations")
    put(tmp_path, "validation/video_validation_0000051.mp4")
    dataset = load(tmp_path)
    assert dataset.class_names == CLASS_NAMES
    # 3007 instances of 200 validation videos, 3358 of 212 test videos.
    assert "6365 segments of 412 videos" in dataset.note
    assert len(dataset.absent) == 411
    assert "188 more stretches marked ambiguous" in dataset.note
    (record,) = dataset.records
    assert record.segments
