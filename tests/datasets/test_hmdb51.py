"""HMDB51: split files by class, names full of special characters, two orders of the labels."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from flowpipe.datasets import DATASETS
from flowpipe.datasets.hmdb51 import CLASS_NAMES, TSN_ORDER
from flowpipe.errors import DatasetError

load = DATASETS["hmdb51"].load
FIRST = "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi"


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def lists(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of the official lists that a test may spoil."""
    return shutil.copytree(shared_data / "annotations" / "hmdb51_splits", tmp_path / "splits")


def official(lists: Path) -> dict[str, tuple[str, str]]:
    """File name -> class and codes of the three splits, read anew."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(lists.glob("*_test_split*.txt")):
        for line in path.read_text().split("\n"):
            if line.strip():
                name, code = line.strip().rsplit(" ", 1)
                class_name = path.name.rpartition("_test_split")[0]
                found[name] = class_name, found.get(name, ("", ""))[1] + code
    return found


def test_official_lists_have_the_published_counts(lists, tmp_path):
    fill(tmp_path / "videos", FIRST)
    dataset = load(tmp_path / "videos", annotations=lists)
    listed = [*dataset.records, *dataset.absent]
    assert len(listed) == 6766
    counts = Counter(split for record in listed for split in record.splits)
    assert counts == {f"train{k}": 3570 for k in (1, 2, 3)} | {f"test{k}": 1530 for k in (1, 2, 3)}
    by_id = {record.video_id: record for record in listed}
    codes = {"train": "1", "test": "2"}
    for name, (class_name, wanted) in official(lists).items():
        record = by_id[name[:-4]]
        assert dataset.class_names[record.labels[0]] == class_name
        got = {split[-1]: codes[split[:-1]] for split in record.splits}
        assert "".join(got.get(k, "0") for k in "123") == wanted


def test_special_names_are_found_as_they_are(lists, tmp_path):
    names = official(lists)
    strange = sorted(name for name in names if set(name) & set("!()#[]&+;~@"))
    assert len(strange) == 536
    root = tmp_path / "videos"
    fill(root, *(f"{names[name][0]}/{name}" for name in strange))
    dataset = load(root, annotations=lists)
    assert {Path(record.path).name for record in dataset.records} == set(strange)
    assert not dataset.unlisted
    for record in dataset.records:
        assert CLASS_NAMES[record.labels[0]] == Path(record.path).parent.name


def test_labels_follow_the_chosen_order(lists):
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)
    tsn = (lists / "class_list.txt").read_text().split()
    assert [CLASS_NAMES[label] for label in TSN_ORDER] == tsn
    assert sum(k != label for k, label in enumerate(TSN_ORDER)) == 4


def test_missing_and_malformed_lists_are_refused(lists, tmp_path):
    root = tmp_path / "videos"
    fill(root, FIRST)
    (lists / "chew_test_split2.txt").rename(tmp_path / "aside.txt")
    with pytest.raises(DatasetError, match="chew_test_split2.txt of test_train_splits.rar"):
        load(root, annotations=lists)
    (lists / "chew_test_split2.txt").write_text("a.avi 1 \r\nb.avi 3 \r\n")
    with pytest.raises(DatasetError, match=r"chew_test_split2.txt:2 must read 'name.avi 1'"):
        load(root, annotations=lists)
    for path in lists.glob("*split[23].txt"):
        path.unlink()  # one split alone will do
    dataset = load(root, annotations=lists)
    splits = {split for record in (*dataset.records, *dataset.absent) for split in record.splits}
    assert splits == {"train1", "test1"}
    (root / FIRST).unlink()
    fill(root, "hmdb51_org.rar")
    with pytest.raises(DatasetError, match="unpack .*hmdb51_org.rar first .*each class"):
        load(root, annotations=lists)
