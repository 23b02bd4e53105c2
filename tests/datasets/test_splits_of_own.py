"""Your own videos get splits: by a share of each class, or by list files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe.datasets import DATASETS, Dataset
from flowpipe.datasets.splits_of_own import split_by_lists, split_by_share
from flowpipe.errors import DatasetError
from flowpipe.types import VideoRecord

Put = Callable[..., Dataset]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Make empty files below ``videos`` and read them as a folder."""

    def put(*names: str) -> Dataset:
        for name in names:
            path = tmp_path / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return DATASETS["folder"].load(tmp_path / "videos")

    return put


def divide(dataset: Dataset, folder: Path, **lists: str) -> Dataset:
    made = []
    for split, text in lists.items():
        path = folder / f"{split}.txt"
        path.write_text(text)
        made.append((split, path))
    return split_by_lists(dataset, made, folder / "videos")


def splits(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.video_id: record.splits for record in dataset.records}


def labels(dataset: Dataset) -> dict[str, list[str]]:
    return {r.video_id: [dataset.class_names[k] for k in r.labels] for r in dataset.records}


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0.01, 0.99),
    unlabelled=st.integers(0, 3),
)
def test_a_share_of_each_class_is_for_validation(
    sizes: list[int], share: float, unlabelled: int
) -> None:
    records = [
        VideoRecord(f"{label}/{k}.mp4", "x", labels=(label,))
        for label, size in enumerate(sizes)
        for k in range(size)
    ]
    records += [VideoRecord(f"loose{k}.mp4", "x") for k in range(unlabelled)]
    dataset = Dataset("folder", tuple(map(str, range(len(sizes)))), tuple(records))
    made = split_by_share(dataset, share)
    count = Counter((record.labels, record.splits) for record in made.records)
    for label, size in enumerate(sizes):
        kept, trained = count[(label,), ("val1",)], count[(label,), ("train1",)]
        assert kept + trained == size
        assert trained >= 1
        if size > 1:
            assert kept >= 1
            assert kept - share * size <= 1
            assert share * size - kept <= 1
    assert count[(), ()] == unlabelled
    again = split_by_share(Dataset("folder", dataset.class_names, tuple(reversed(records))), share)
    assert splits(again) == splits(made)


def test_a_larger_share_keeps_the_videos_of_a_smaller_one() -> None:
    records = tuple(VideoRecord(f"{k}.mp4", "x", labels=(0,)) for k in range(30))
    dataset = Dataset("folder", ("a",), records)
    kept = [
        {r.video_id for r in split_by_share(dataset, share).records if r.splits == ("val1",)}
        for share in (0.1, 0.2, 0.5)
    ]
    assert [len(one) for one in kept] == [3, 6, 15]
    assert kept[0] < kept[1] < kept[2]


def test_the_division_by_a_share_is_noted(put: Put) -> None:
    names = [f"walk/{k}.mp4" for k in range(5)]
    made = split_by_share(put(*names, "run/1.mp4", "loose.mp4"), 0.4)
    assert "2 of 6 labelled videos are kept for validation (val1), 4 are trained on" in made.note
    assert "1 class has one video only, which is trained on: run" in made.note
    assert "1 video without a label is in no split" in made.note
    assert splits(made)["loose.mp4"] == ()


def test_a_share_is_refused_without_labels_or_beside_splits(put: Put, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="put the videos of each class into a folder"):
        split_by_share(put("a.mp4", "b.mp4"), 0.5)
    path = tmp_path / "list.csv"
    path.write_text("path,label,split\na.mp4,x,train\nb.mp4,x,test\n")
    with pytest.raises(DatasetError, match="have the splits test1, train1 already"):
        split_by_share(DATASETS["list"].load(path), 0.5)


def test_lists_name_videos_as_people_write_them(put: Put, tmp_path: Path) -> None:
    dataset = put("walk/a.mp4", "walk/b.b.avi", "run/c.mp4", "run/d.mp4", "run/e.webm")
    made = divide(
        dataset,
        tmp_path,
        train1=f"walk/a.mp4\n/elsewhere/walk/b.b\n{tmp_path}/videos/run/c.mp4\n",
        val1="./run/d.mp4\n",
        test2="c\nwalk/a\n",
    )
    assert splits(made) == {
        "run/c.mp4": ("train1", "test2"), "run/d.mp4": ("val1",), "run/e.webm": (),
        "walk/a.mp4": ("train1", "test2"), "walk/b.b.avi": ("train1",),
    }  # fmt: skip
    assert "videos by split, as listed: train1 3, val1 1, test2 2" in made.note
    assert "1 video is in no list and in no split" in made.note
    assert labels(made) == labels(dataset)


def test_videos_of_one_name_are_told_apart_by_their_folders(put: Put, tmp_path: Path) -> None:
    dataset = put("walk/1.mp4", "run/1.mp4", "run/2.mp4")
    made = divide(dataset, tmp_path, train1="walk/1.mp4\n", test1="run/1\n2.mp4\n")
    assert splits(made) == {
        "walk/1.mp4": ("train1",), "run/1.mp4": ("test1",), "run/2.mp4": ("test1",)
    }  # fmt: skip
    with pytest.raises(DatasetError, match=r"1\.mp4 of a split list may be .* write more"):
        divide(dataset, tmp_path, train1="1.mp4\n")


def test_a_listed_video_that_is_not_there_is_absent(put: Put, tmp_path: Path) -> None:
    made = divide(put("walk/a.mp4"), tmp_path, train1="walk/a.mp4\nwalk/gone.mp4\n")
    (absent,) = made.absent
    assert (absent.video_id, absent.path, absent.splits) == ("walk/gone.mp4", "", ("train1",))
    with pytest.raises(DatasetError, match=r"names no video.*walk/aa\.mp4.*walk/a\.mp4"):
        divide(put("walk/a.mp4"), tmp_path, train1="walk/aa.mp4\n")


def test_a_video_that_is_trained_and_validated_on_is_refused(put: Put, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"walk/a\.mp4 is in the lists of train1 and val1"):
        divide(put("walk/a.mp4"), tmp_path, train1="walk/a.mp4\n", val1="walk/a.mp4\n")
    made = divide(put("walk/a.mp4"), tmp_path, val1="walk/a.mp4\n", test1="walk/a.mp4\n")
    assert splits(made) == {"walk/a.mp4": ("val1", "test1")}


@pytest.mark.parametrize(
    ("train", "val", "classes", "wanted"),
    [
        ("a 100 1\nb 100 0\n", "c 90 2\n", ("0", "1", "2"), {"a": "1", "b": "0", "c": "2"}),
        ("a.mp4 walk\nb.mp4 run\n", "c.mp4 jump\n", ("jump", "run", "walk"),
         {"a": "walk", "b": "run", "c": "jump"}),
    ],
)  # fmt: skip
def test_labels_come_from_the_lists_where_there_are_no_folders(
    train: str, val: str, classes: tuple[str, ...], wanted: dict[str, str], put: Put, tmp_path: Path
) -> None:
    made = divide(put("a.mp4", "b.mp4", "c.mp4"), tmp_path, train1=train, val1=val)
    assert made.class_names == classes
    assert labels(made) == {f"{key}.mp4": [name] for key, name in wanted.items()}


def test_labels_that_contradict_each_other_or_folders_are_refused(put: Put, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"val2\.txt:1 gives a\.mp4 another label"):
        divide(put("a.mp4", "b.mp4"), tmp_path, train1="a.mp4 x\nb.mp4 y\n", val2="a.mp4 y\n")
    made = divide(put("walk/c.mp4", "run/d.mp4"), tmp_path, train1="walk/c.mp4 1\nrun/d.mp4 0\n")
    assert labels(made) == {"walk/c.mp4": ["walk"], "run/d.mp4": ["run"], "a.mp4": [], "b.mp4": []}
    assert "labels that the split lists have too are not used" in made.note


def test_class_names_give_labels_their_names(put: Put, tmp_path: Path) -> None:
    names, listed = tmp_path / "classes.txt", tmp_path / "train.txt"
    names.write_text("walk\nrun\n")
    listed.write_text("a.mp4 1\nb.mp4 0\n")
    dataset = put("a.mp4", "b.mp4")
    made = split_by_lists(dataset, [("train1", listed)], tmp_path / "videos", names)
    assert labels(made) == {"a.mp4": ["run"], "b.mp4": ["walk"]}


def test_splits_of_a_csv_have_the_names_of_stores(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label,split\na.mp4,x,train\nb.mp4,x,Validation fold2\n")
    assert [r.splits for r in DATASETS["list"].load(path).records] == [
        ("train1",), ("val1", "fold2")
    ]  # fmt: skip
    path.write_text("path,label,subset\na.mp4,x,training\nb.mp4,x,other\n")
    assert [(r.subset, r.splits) for r in DATASETS["list"].load(path).records] == [
        ("training", ("train1",)), ("other", ())
    ]  # fmt: skip
