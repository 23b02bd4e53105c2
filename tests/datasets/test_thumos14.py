"""THUMOS14: videos are found by their names in any unpacked layout, with labels and segments."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from scipy.io import loadmat, savemat

from flowpipe.datasets import DATASETS
from flowpipe.datasets.thumos14 import CLASS_NAMES, DETECTION_CLASSES
from flowpipe.errors import DatasetError
from flowpipe.types import Interval

load = DATASETS["thumos14"].load
CLIFF, DIVING, BILLIARDS = (CLASS_NAMES.index(n) for n in ("CliffDiving", "Diving", "Billiards"))
VIDEOS = (
    "validation/video_validation_0000051.mp4",
    "validation/video_validation_0000052.mp4",
    "TH14_test_set_mp4/video_test_0000004.mp4",
    "TH14_test_set_mp4/video_test_0000270.mp4",
)


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


def test_subsets_follow_from_the_names(tmp_path):
    fill(tmp_path, *VIDEOS, "video_test_notes.txt", "validation/._video_validation_0000051.mp4")
    fill(tmp_path, "UCF-101/Diving/v_Diving_g01_c01.avi", "test/video_test_0000004.jpg")
    fill(tmp_path, "background/video_background_0000007.mp4")
    dataset = load(tmp_path)
    assert [(r.video_id, r.subset, r.splits) for r in dataset.records] == [
        ("video_validation_0000051", "validation", ("train1",)),
        ("video_validation_0000052", "validation", ("train1",)),
        ("video_test_0000004", "test", ("test1",)),
        ("video_test_0000270", "test", ("test1",)),
        ("video_background_0000007", "background", ()),
    ]
    assert len(dataset.absent) == 1010 + 1574 - 4
    assert dataset.unlisted == (f"{tmp_path}/UCF-101/Diving/v_Diving_g01_c01.avi",)
    assert "2 of 1010 official validation videos" in dataset.note
    assert "video_test_0000270: faulty" in dataset.note
    assert "0 of 3007 validation segments" in dataset.note
    assert "No test_set_meta.mat" in dataset.note
    only = dataset.select(["test"])
    assert {r.subset for r in (*only.records, *only.absent)} == {"test"}
    with pytest.raises(DatasetError, match="known: background, test, test1, train1"):
        dataset.select(["training"])


def test_segments_are_read_and_ambiguous_ones_left_out(tmp_path):
    fill(tmp_path, *VIDEOS)
    notes = tmp_path / "TH14_Temporal_annotations_validation" / "annotation"
    write(
        notes / "CliffDiving_val.txt",
        "video_validation_0000051  67.5 75.9\r\nvideo_validation_0000051  0.2 1\r\n",
    )
    write(notes / "Diving_val.txt", "video_validation_0000051  67.5 75.9\n")
    write(notes / "Billiards_val.txt", "video_validation_0000053  1.0 2.0\n\n")
    write(notes / "Ambiguous_val.txt", "video_validation_0000052  3.0 4.0\n")
    dataset = load(tmp_path)
    by_id = {r.video_id: r for r in (*dataset.records, *dataset.absent)}
    assert by_id["video_validation_0000051"].segments == (
        Interval(CLIFF, 0.2, 1.0), Interval(CLIFF, 67.5, 75.9), Interval(DIVING, 67.5, 75.9)
    )  # fmt: skip
    assert by_id["video_validation_0000051"].labels == (CLIFF, DIVING)
    assert by_id["video_validation_0000052"].segments == ()
    assert by_id["video_validation_0000052"].ambiguous == ((3.0, 4.0),)
    assert by_id["video_validation_0000053"].labels == (BILLIARDS,)
    assert "4 of 3007 validation segments found, in 2 videos" in dataset.note
    assert "1 ambiguous segment." in dataset.note


def test_labels_of_whole_videos_come_from_the_mat_files(tmp_path):
    fill(tmp_path, *VIDEOS)
    row = {"video_name": "video_validation_0000051", "primary_action_index": CLIFF + 1}
    rows = [
        row | {"secondary_actions_indices": [DIVING + 1, 1]},
        row | {"video_name": "video_validation_0000052", "secondary_actions_indices": []},
    ]
    savemat(tmp_path / "validation_set.mat", {"validation_videos": rows})
    write(tmp_path / "Billiards_val.txt", "video_validation_0000052  1.0 2.0\n")
    dataset = load(tmp_path)
    assert [r.labels for r in dataset.records[:2]] == [(0, CLIFF, DIVING), (CLIFF,)]
    assert dataset.records[1].segments[0].label == BILLIARDS  # as each file says
    assert "2 validation videos labelled as wholes, 0 of them background" in dataset.note

    (tmp_path / "again").mkdir()
    savemat(tmp_path / "again" / "validation_set.mat", {"validation_videos": rows[::-1]})
    assert load(tmp_path).records == dataset.records
    rows[1]["primary_action_index"] = 5
    savemat(tmp_path / "again" / "validation_set.mat", {"validation_videos": rows})
    with pytest.raises(DatasetError, match="differ on video_validation_0000052"):
        load(tmp_path)
    rows[1]["primary_action_index"] = 102
    strange = [rows[0] | {"video_name": "video_validation_0001011"}]
    for broken in ({"validation_videos": rows}, {"videos": rows}, {"validation_videos": strange}):
        savemat(tmp_path / "again" / "validation_set.mat", broken)
        with pytest.raises(DatasetError, match="differs from the official file"):
            load(tmp_path)
    (tmp_path / "again" / "validation_set.mat").write_bytes(b"no MATLAB file")
    with pytest.raises(DatasetError, match="validation_set.mat differs from the official file"):
        load(tmp_path)


def test_a_class_list_that_disagrees_is_refused(tmp_path):
    fill(tmp_path, *VIDEOS)
    write(tmp_path / "detclasslist.txt", "7 BaseballPitch\r\n12 Billiards\r\n")
    assert load(tmp_path).class_names == CLASS_NAMES
    write(tmp_path / "detclasslist.txt", "7 BaseballPitch\r\n8 Billiards\r\n")
    with pytest.raises(DatasetError, match=r"detclasslist.txt:2 must read a number and a class"):
        load(tmp_path)


def test_an_id_with_two_files_is_refused(tmp_path):
    fill(tmp_path, *VIDEOS, "copy/video_validation_0000051.mp4", "test/VIDEO_TEST_0000004.AVI")
    with pytest.raises(DatasetError, match="1 video .* more than one file") as caught:
        load(tmp_path)
    assert str(tmp_path / "copy/video_validation_0000051.mp4") in str(caught.value)
    assert str(tmp_path / "validation/video_validation_0000051.mp4") in str(caught.value)


def test_a_second_copy_of_an_annotation_must_agree(tmp_path):
    fill(tmp_path, *VIDEOS)
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
    fill(tmp_path, *VIDEOS)
    write(tmp_path / "Diving_val.txt", f"video_validation_0000051 1.0 2.0\n{row}\n")
    with pytest.raises(DatasetError, match=r"Diving_val\.txt:2 must read"):
        load(tmp_path)
    write(tmp_path / "Diving_val.txt", "video_validation_0001011 1.0 2.0\n")
    with pytest.raises(DatasetError, match=r"_val\.txt:1 must .*1 to 1010.*_0001011 1\.0 2\.0"):
        load(tmp_path)


def test_an_empty_folder_is_refused_with_what_was_wanted(tmp_path):
    with pytest.raises(
        DatasetError, match="video_validation_0000001.mp4 or video_test_0000001.mp4"
    ):
        load(tmp_path)
    fill(tmp_path, "TH14_Test_set_mp4.zip")
    with pytest.raises(DatasetError, match="unpack .*TH14_Test_set_mp4.zip first .*password"):
        load(tmp_path)


def test_official_annotations_have_the_published_counts(shared_data, tmp_path):
    lists = shared_data / "annotations" / "thumos14"
    fill(tmp_path, "validation/video_validation_0000051.mp4")
    dataset = load(tmp_path, annotations=lists)
    assert dataset.class_names == CLASS_NAMES
    ucf101 = (shared_data / "annotations" / "ucf101_lf" / "classInd.txt").read_text().split()
    assert list(CLASS_NAMES) == ucf101[1::2]
    records = [*dataset.records, *dataset.absent]
    assert Counter(r.subset for r in records) == {"validation": 1010, "test": 1574}
    durations = (lists / "validation_durations.txt").read_text().split()
    named = {Path(name).stem for name in durations if name.startswith("video")}
    assert named == {r.video_id for r in records if r.subset == "validation"}
    annotated = [r for r in records if r.segments]
    assert Counter(r.subset for r in annotated) == {"validation": 200, "test": 212}
    for subset, count in (("validation", 3007), ("test", 3358)):
        assert sum(len(r.segments) for r in annotated if r.subset == subset) == count
    assert {CLASS_NAMES[s.label] for r in annotated for s in r.segments} == set(DETECTION_CLASSES)
    assert sum(len(r.ambiguous) for r in records) == 89 + 99
    only_ambiguous = [r.video_id for r in records if r.ambiguous and not r.segments]
    assert only_ambiguous == ["video_test_0001292"]


def test_every_cliff_dive_is_a_dive_too(shared_data, tmp_path):
    fill(tmp_path, *VIDEOS)
    dataset = load(tmp_path, annotations=shared_data / "annotations" / "thumos14")
    dives: dict[tuple[str, int], set[tuple[str, float, float]]] = {}
    for record in (*dataset.records, *dataset.absent):
        for s in record.segments:
            interval = (record.video_id, s.start_s, s.end_s)
            dives.setdefault((record.subset, s.label), set()).add(interval)
    for subset, count in (("validation", 143), ("test", 217)):
        assert len(dives[subset, CLIFF] & dives[subset, DIVING]) == count
        assert dives[subset, CLIFF] <= dives[subset, DIVING]


def test_test_videos_have_the_published_labels(shared_data, tmp_path):
    lists = shared_data / "annotations" / "thumos14"
    fill(tmp_path, *VIDEOS)
    dataset = load(tmp_path, annotations=lists)
    by_id = {r.video_id: r for r in (*dataset.records, *dataset.absent)}
    test = [r for r in by_id.values() if r.subset == "test"]
    assert sum(bool(r.labels) for r in test) == 1094
    assert "1574 test videos labelled as wholes, 480 of them background" in dataset.note
    secondary = 0
    for row in loadmat(lists / "test_set_final.mat", simplify_cells=True)["test_videos"]:
        names = {row["primary_action"]}
        if row["background_video"] == "YES":
            names = set()
        elif isinstance(row["secondary_actions"], str) or len(row["secondary_actions"]):
            secondary += 1
            more = row["secondary_actions"]
            names |= {more} if isinstance(more, str) else set(more)
        assert {CLASS_NAMES[label] for label in by_id[row["video_name"]].labels} == names
    assert secondary == 171
    shutil.copy(lists / "test_set_final.mat", tmp_path)
    assert load(tmp_path).records[2].labels == by_id["video_test_0000004"].labels
