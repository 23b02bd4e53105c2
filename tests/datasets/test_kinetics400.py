"""Kinetics-400: CSV files by their header, videos by their ids with or without times."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowpipe.datasets import DATASETS
from flowpipe.errors import DatasetError

load = DATASETS["kinetics400"].load
HEADER = "label,youtube_id,time_start,time_end,split,is_cc"


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def table(path: Path, *rows: str, header: str = HEADER, newline: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(newline.join((header, *rows)) + newline, newline="")
    return path


def classes(count: int = 400) -> list[str]:
    """A row of each class, ids of eleven characters."""
    return [f'"class {k:03}",id--{k:07},{k},{k + 10},train,0' for k in range(count)]


def test_the_official_validation_list_is_read(shared_data, tmp_path):
    lists = shared_data / "annotations" / "kinetics"
    fill(tmp_path, "val/abseiling/0wR5jVB-WPk_000417_000427.mp4", "val_256/3caPS4FHFF8.webm")
    fill(tmp_path, "val/yoga/not-a-known_000001_000002.mp4")
    dataset = load(tmp_path, annotations=lists)
    assert len(dataset.records) + len(dataset.absent) == 19906
    names = [line.split(" ", 1)[1] for line in
             (lists / "Kinetics-400_label_list.txt").read_text().splitlines()]  # fmt: skip
    assert list(dataset.class_names) == names
    assert [(r.video_id, r.labels, r.subset, r.splits) for r in dataset.records] == [
        ("0wR5jVB-WPk_000417_000427", (0,), "validation", ("test1",)),
        ("3caPS4FHFF8_000036_000046", (0,), "validation", ("test1",)),
    ]
    assert [Path(path).name for path in dataset.unlisted] == ["not-a-known_000001_000002.mp4"]
    assert "2 of 19906 listed" in dataset.note


def test_train_validation_and_test_tables_are_read(tmp_path):
    table(tmp_path / "kinetics_train.csv", *classes(), newline="\r\n")
    table(tmp_path / "b" / "validate.csv", "class 007,-dash-first,5,15,validate,0")
    table(
        tmp_path / "test.csv", "_under_scor,1,11,test", "_under_scor,20,30,test",
        header="youtube_id,time_start,time_end,split",
    )  # fmt: skip
    table(tmp_path / "other.csv", "1,2", header="a,b")
    fill(tmp_path, "x/-dash-first_000005_000015.mkv", "x/id--0000000.mp4", "x/_under_scor.mp4")
    fill(tmp_path, "x/_under_scor_000020_000030.mp4")
    dataset = load(tmp_path)
    assert {r.video_id: (r.labels, r.subset, r.splits) for r in dataset.records} == {
        "-dash-first_000005_000015": ((7,), "validation", ("test1",)),
        "id--0000000_000000_000010": ((0,), "training", ("train1",)),
        "_under_scor_000020_000030": ((), "testing", ()),
    }
    # Which of two clips of one video a file without times is cannot be known.
    assert [Path(path).name for path in dataset.unlisted] == ["_under_scor.mp4"]
    assert dataset.class_names[7] == "class_007"


def test_tables_that_would_shift_labels_or_cannot_be_read_are_refused(tmp_path):
    fill(tmp_path, "id--0000000_000000_000010.mp4")
    with pytest.raises(DatasetError, match="no CSV with the columns .*--annotations"):
        load(tmp_path)
    table(tmp_path / "train.csv", *classes(399))
    with pytest.raises(DatasetError, match="name 399 classes, wanted all 400"):
        load(tmp_path)
    for row in ("class 1,short,1,2,train,0", "class 1,id--0000001,x,2,train,0", "a,b"):
        table(tmp_path / "train.csv", *classes(), row)
        with pytest.raises(DatasetError, match=r"train.csv:402 must read 'label,youtube_id"):
            load(tmp_path)
    table(tmp_path / "train.csv", *classes())
    table(tmp_path / "val.csv", "class 001,id--0000000,0,10,train,0")
    with pytest.raises(DatasetError, match="id--0000000_000000_000010 again"):
        load(tmp_path)
