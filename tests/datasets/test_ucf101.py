"""UCF101: the official lists, as published and with LF, on copies as they lie on disks."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from flowpipe.datasets import DATASETS
from flowpipe.errors import DatasetError

load = DATASETS["ucf101"].load
COUNTS = {
    "train1": 9537, "test1": 3783, "train2": 9586, "test2": 3734, "train3": 9624, "test3": 3696
}  # fmt: skip
VIDEOS = ("Archery/v_Archery_g08_c01.avi", "HandstandPushups/v_HandStandPushups_g08_c01.avi")
LISTS = {
    "classInd.txt": "1 Archery\n2 HandstandPushups\n",
    "trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\n"
    "HandstandPushups/v_HandStandPushups_g08_c01.avi 2\n",
    "testlist01.txt": "Archery/v_Archery_g01_c01.avi\n\n",
}


def write(root: Path, **changed: str) -> Path:
    """A small tree in the official layout."""
    files = LISTS | {f"{name}.txt": text for name, text in changed.items()}
    (root / "ucfTrainTestlist").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / "ucfTrainTestlist" / name).write_text(text, newline="")
    for name in VIDEOS:
        path = root / "UCF-101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize("lists", ["ucf101_splits", "ucf101_lf"])
def test_official_lists_have_the_published_counts(shared_data, tmp_path, lists):
    write(tmp_path)
    shutil.rmtree(tmp_path / "ucfTrainTestlist")
    dataset = load(tmp_path, annotations=shared_data / "annotations" / lists)
    listed = [*dataset.records, *dataset.absent]
    assert Counter(split for record in listed for split in record.splits) == COUNTS
    assert len({record.video_id for record in listed}) == 13320
    assert [record.video_id for record in dataset.records] == [
        "v_Archery_g08_c01", "v_HandStandPushups_g08_c01"
    ]  # fmt: skip
    assert dataset.class_names[36] == "HandstandPushups" and len(dataset.class_names) == 101
    assert dataset.records[1].labels == (36,)
    for record in listed:  # no group is in both halves of a split
        assert len({name[-1] for name in record.splits}) == 3


def test_crlf_and_lf_copies_give_the_same_records(shared_data, tmp_path):
    write(tmp_path)
    shutil.rmtree(tmp_path / "ucfTrainTestlist")
    folders = [shared_data / "annotations" / name for name in ("ucf101_splits", "ucf101_lf")]
    assert b"\r\n" in (folders[0] / "classInd.txt").read_bytes()
    assert b"\r\n" not in (folders[1] / "classInd.txt").read_bytes()
    first, second = (load(tmp_path, annotations=folder) for folder in folders)
    assert first == second


def test_labels_and_ids_do_not_depend_on_which_files_are_there(shared_data, tmp_path):
    lists = shared_data / "annotations" / "ucf101_lf"
    names = (lists / "testlist01.txt").read_text().split()
    rng = random.Random(5)
    seen: dict[str, object] = {}
    for k in range(4):
        root = tmp_path / str(k)
        for name in rng.sample(names, 40):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        dataset = load(root, annotations=lists)
        assert len(dataset.records) == 40 and len(dataset.absent) == 13280
        everything = {r.video_id: (r.labels, r.splits) for r in (*dataset.records, *dataset.absent)}
        assert seen in ({}, everything)
        seen = everything
        for record in dataset.records:
            assert dataset.class_names[record.labels[0]] == Path(record.path).parent.name


def test_the_case_of_handstand_push_ups_and_extensions_may_differ(tmp_path):
    write(tmp_path)
    folder = tmp_path / "UCF-101" / "HandstandPushups"
    (folder / "v_HandStandPushups_g08_c01.avi").rename(folder / "v_HandstandPushups_g08_c01.mp4")
    (folder / "extra.avi").touch()
    dataset = load(tmp_path)
    record = dataset.records[1]
    assert (record.video_id, record.labels) == ("v_HandStandPushups_g08_c01", (1,))
    assert record.path.endswith("v_HandstandPushups_g08_c01.mp4")
    assert dataset.unlisted == (str(folder / "extra.avi"),)
    assert [r.video_id for r in dataset.absent] == ["v_Archery_g01_c01"]
    assert dataset.absent[0].splits == ("test1",)
    # Both spellings: the listed one counts, the other is said to be in no list.
    (folder / "v_HandStandPushups_g08_c01.avi").touch()
    dataset = load(tmp_path)
    assert dataset.records[1].path.endswith("v_HandStandPushups_g08_c01.avi")
    assert str(folder / "v_HandstandPushups_g08_c01.mp4") in dataset.unlisted


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classInd": "1 Archery\n3 Diving\n"}, r"classInd.txt:2 must read '2 ClassName'"),
        ({"trainlist01": "Archery/v_Archery_g08_c01.avi 2\n"}, r":1 must read label 1 for Archery"),
        ({"trainlist01": "Bowling/v_B_g08_c01.avi 1\n"}, r":1 must read a class of the 2"),
        ({"testlist01": "v_Archery_g08_c01\n"}, r"testlist01.txt:1 must read 'Class/v_Class"),
        (
            {"testlist01": "HandstandPushups/v_Archery_g08_c01.avi\n"},
            "v_Archery_g08_c01 into another class",
        ),
    ],
)
def test_lines_unlike_the_official_ones_are_named(tmp_path, changed, message):
    with pytest.raises(DatasetError, match=message):
        load(write(tmp_path, **changed))


def test_absent_files_are_reported_with_a_remedy(tmp_path):
    root = write(tmp_path / "a")
    shutil.rmtree(root / "ucfTrainTestlist")
    with pytest.raises(DatasetError, match="RecognitionTask.zip .*--annotations"):
        load(root)
    root = write(tmp_path / "b")
    shutil.rmtree(root / "UCF-101")
    with pytest.raises(DatasetError, match="no UCF101 video such as v_ApplyEyeMakeup_g01_c01.avi"):
        load(root)
    (root / "UCF101.rar").touch()
    with pytest.raises(DatasetError, match="unpack .*UCF101.rar first"):
        load(root)
    root = write(tmp_path / "c")
    shutil.copytree(root / "UCF-101", root / "copy")
    with pytest.raises(DatasetError, match="2 videos .* with more than one file"):
        load(root)


def test_a_copy_of_a_list_that_disagrees_is_refused(tmp_path):
    root = write(tmp_path)
    shutil.copytree(root / "ucfTrainTestlist", root / "again")
    assert len(load(root).records) == 2
    (root / "again" / "testlist01.txt").write_text("Archery/v_Archery_g02_c01.avi\n")
    with pytest.raises(DatasetError, match="differ; remove or move away"):
        load(root)
