"""Lists in the forms of other programs: delimiters, headers, numbers and quotes are understood."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import draw_noise_clip
from videofile import encode_video

from flowpipe.datasets import DATASETS
from flowpipe.errors import DatasetError

load = DATASETS["list"].load


@pytest.fixture
def vids(tmp_path: Path) -> Path:
    """Three clips of 6 frames."""
    folder = tmp_path / "vids"
    folder.mkdir()
    for name in ("a", "b", "c d"):
        encode_video(folder / f"{name}.mp4", draw_noise_clip(1, frames=6))
    return folder


def read(folder: Path, text: str | bytes, **options):
    path = folder.parent / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, **options)


@pytest.mark.parametrize(
    "text",
    [
        "vids/a.mp4,1\nvids/b.mp4,0\n",
        "vids/a.mp4;1\r\nvids/b.mp4;0\r\n",
        "vids/a.mp4\t1\nvids/b.mp4\t0\n",
        '"vids/a.mp4","1"\n"vids/b.mp4","0"\n',
        '\ufeff"vids/a.mp4";1\nvids/b.mp4; 0\n',
        "vids\\a.mp4 1\nvids\\b.mp4 0\n",
        ".\\vids\\a.mp4,1\nvids\\b.mp4,0\n",
        "path;label\nvids/a.mp4;1\nvids/b.mp4;0\n",
        "label\tpath\n1\tvids/a.mp4\n0\tvids/b.mp4\n",
        "# files\n\nvids/a.mp4, 1,\nvids/b.mp4, 0,\n",
        "vids/a.mp4 6 1\nvids/b.mp4 6 0\n",
        "vids/a.mp4,6,1\nvids/b.mp4,6,0\n",
    ],
)
def test_a_list_reads_the_same_in_many_forms(vids: Path, text: str):
    dataset = read(vids, text)
    assert [(r.video_id, r.labels) for r in dataset.records] == [
        ("vids/a.mp4", (1,)), ("vids/b.mp4", (0,))
    ]  # fmt: skip
    assert all(Path(r.path).is_file() for r in dataset.records)


@pytest.mark.parametrize(
    "text",
    ["vids/a.mp4,walk\nvids/c d.mp4,run\n", "vids/a.mp4;walk\nvids/c d.mp4;run\n",
     "vids/a.mp4 walk\nvids/c d.mp4 run\n", "vids/a.mp4\twalk\nvids/c d.mp4\trun\n"],
)  # fmt: skip
def test_classes_are_named_without_a_header(vids: Path, text: str):
    dataset = read(vids, text)
    assert dataset.class_names == ("run", "walk")
    assert [(r.video_id, r.labels) for r in dataset.records] == [
        ("vids/a.mp4", (1,)), ("vids/c d.mp4", (0,))
    ]  # fmt: skip


def test_names_with_delimiters_are_names_where_the_file_is_there(vids: Path):
    for name in ("x, 1.mp4", "y;2", "take 2", "back\\slash.mp4", "C:\\odd.mp4"):
        (vids / name).write_bytes((vids / "a.mp4").read_bytes())
        dataset = read(vids, f"vids/{name}\n")
        (record,) = dataset.records
        assert (record.path, record.labels) == (str(vids / name), ())


@pytest.mark.parametrize(
    ("text", "labels", "frames", "form"),
    [
        ("vids/a.mp4 6 1 5\nvids/b.mp4 6 0\n", [(1, 5), (0,)], 6, "num_frames label ..."),
        ("vids/a.mp4 7 1 5\nvids/b.mp4 7 0\n", [(1, 5), (0,)], 7, "num_frames label ..."),
        ("vids/a.mp4 300 1\nvids/b.mp4 200 0\n", [(1,), (0,)], 300, "num_frames label ..."),
        ("vids/a.mp4 1 50\nvids/b.mp4 0 60\n", [(1, 50), (0, 60)], None, "label ..."),
        ("vids/a.mp4 1 2 3\nvids/b.mp4 0\n", [(1, 2, 3), (0,)], None, "label ..."),
        ("vids/a.mp4 1 300 1 5 6\n", [(1, 5, 6)], 300, "offset num_frames label ..."),
        ("vids/a.mp4,1,2,3\nvids/b.mp4,0\n", [(1, 2, 3), (0,)], None, "label ..."),
        ("gone/a.mp4 120 1\ngone/b.mp4 130 0\n", [(1,), (0,)], 120, "num_frames label ..."),
    ],
)
def test_numbers_are_counts_or_labels(vids: Path, text, labels, frames, form):
    dataset = read(vids, text)
    assert [r.labels for r in dataset.records] == labels
    assert dataset.listed_frames.get(dataset.records[0].video_id) == frames
    assert f"'path {form}'" in dataset.note


@pytest.mark.parametrize(
    "cells", ["path,label\nvids/a.mp4,1 5\n", "path,label\nvids/a.mp4,1|5\n",
              "path,num_frames,label\nvids/a.mp4,6,1;5\n"],
)  # fmt: skip
def test_a_cell_may_hold_several_labels(vids: Path, cells: str):
    (record,) = read(vids, cells).records
    assert record.labels == (1, 5)
    named = read(vids, "path,label\nvids/a.mp4,sit up|walk\nvids/b.mp4,walk\n")
    assert [r.labels for r in named.records] == [(0, 1), (1,)]


def test_drives_and_shares_of_windows_are_refused_with_an_explanation(vids: Path):
    with pytest.raises(DatasetError, match=r"list\.txt:2: .*Windows drive.*--root"):
        read(vids, "vids/a.mp4\nC:\\clips\\b.mp4\n")
    with pytest.raises(DatasetError, match=r"list\.txt:1: .*Windows drive or share"):
        read(vids, "\\\\server\\clips\\b.mp4\n")


def test_columns_without_a_header_are_not_guessed(vids: Path):
    with pytest.raises(DatasetError, match="begin the list with a line of column names"):
        read(vids, "vids/a.mp4,walk,train\n")


def test_ids_below_the_folder_of_the_list_are_relative(vids: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path)
    path = vids / "list.txt"
    path.write_text(f"{vids}/a.mp4\n{tmp_path}/elsewhere/link/vids/b.mp4\n")
    dataset = load(path)
    assert [r.video_id for r in dataset.records] == ["a.mp4", "b.mp4"]
    assert dataset.note == ""


def test_ids_outside_the_folder_are_noted_with_a_remedy(vids: Path, tmp_path: Path):
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "list.txt"
    path.write_text(f"{vids}/a.mp4\n{vids}/b.mp4\n")
    dataset = load(path)
    assert [r.video_id for r in dataset.records] == [
        f"{vids}/{name}.mp4".lstrip("/") for name in "ab"
    ]
    assert f"2 of 2 paths of the list do not lie below {path.parent}" in dataset.note
    assert f"--root {vids}" in dataset.note
    cured = load(path, base=vids)
    assert [r.video_id for r in cured.records] == ["a.mp4", "b.mp4"] and cured.note == ""
    path.write_text("vids/a.mp4\n")
    (record,) = load(path, base=tmp_path).records
    assert (record.video_id, record.path) == ("vids/a.mp4", str(vids / "a.mp4"))


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("# c\nvids/aa.mp4\n", "list.txt:2: no file {vids}/aa.mp4; did you mean {vids}/a.mp4?"),
        ("vids/a.avi 1\n", "list.txt:1: no file {vids}/a.avi; did you mean {vids}/a.mp4?"),
        ("vids/b 1\n", "did you mean {vids}/b.mp4?"),
        ("Vids/a.mp4\n", "there is no {root}/Vids either; did you mean {root}/vids?"),
        ("~/a.mp4\n", "~ is not expanded"),
    ],
)
def test_what_is_not_there_is_explained(vids: Path, text: str, explained: str):
    dataset = read(vids, text)
    assert dataset.explain is not None
    told = dataset.explain(dataset.records[0])
    assert explained.format(vids=vids, root=vids.parent) in told
