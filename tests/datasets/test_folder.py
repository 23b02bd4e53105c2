"""Folder trees: every video once, in one order, under an id that is safe for any name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.datasets import DATASETS
from flowpipe.datasets.ids import escape, id_of
from flowpipe.errors import DatasetError
from flowpipe.types import MAX_VIDEO_ID_BYTES

load = DATASETS["folder"].load


def file_name_of(escaped: str) -> str:
    """The file name that `escape` has written as this text."""
    raw = re.sub(
        rb"\\(\\|x[0-9a-f]{2})",
        lambda found: b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)]),
        escaped.encode("utf-8"),
    )
    return raw.decode("utf-8", "surrogateescape")


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def ids(root: Path, **options: str) -> list[str]:
    return [record.video_id for record in load(root, **options).records]


def test_videos_are_found_by_extension_in_sorted_order(tmp_path):
    fill(
        tmp_path, "b.MP4", "a.avi", "z/x.WebM", "z/y.mkv", "notes.txt", "cover.jpg", "no_extension"
    )
    assert ids(tmp_path) == ["a.avi", "b.MP4", "z/x.WebM", "z/y.mkv"]
    assert load(tmp_path).records[0].path == str(tmp_path / "a.avi")


def test_the_folder_of_a_video_is_its_class(tmp_path):
    fill(tmp_path, "train/Wave/1.mp4", "train/Jump/2.mp4", "test/Wave/3.mp4", "loose.mp4")
    dataset = load(tmp_path)
    assert dataset.class_names == ("Jump", "Wave")
    labels = {record.video_id: record.labels for record in dataset.records}
    assert labels == {
        "loose.mp4": (), "train/Wave/1.mp4": (1,), "train/Jump/2.mp4": (0,),
        "test/Wave/3.mp4": (1,),
    }  # fmt: skip
    plain = load(tmp_path, labels="none")
    assert plain.class_names == ()
    assert {record.labels for record in plain.records} == {()}


def test_names_with_shell_characters_stay_as_they_are(tmp_path):
    names = [
        "#20_Rhythm (clap) [1].avi",
        "a & b; c.mp4",
        'it\'s "fun".mp4',
        "100%~@!+.mp4",
        "é 日.mp4",
    ]
    fill(tmp_path, *names)
    assert sorted(ids(tmp_path)) == sorted(names)


def test_hidden_files_and_folders_are_skipped(tmp_path):
    fill(tmp_path, "a.mp4", "._a.mp4", ".cache/b.mp4", "c/.d/e.mp4", ".DS_Store")
    assert ids(tmp_path) == ["a.mp4"]


def test_everything_that_is_left_out_is_counted(tmp_path):
    fill(tmp_path, "a.mp4", "._a.mp4", ".cache/b.mp4", "c/.d/e.mp4", ".DS_Store", "notes.txt")
    os.mkfifo(tmp_path / "pipe.mp4")
    counts = {one.kind: one.count for one in load(tmp_path).left_out}
    assert counts == {
        "hidden (folder)": 2,
        "hidden .mp4": 1,
        "hidden (file)": 1,
        "special (pipe, socket, device)": 1,
        ".txt": 1,
    }


def test_an_id_does_not_change_when_a_folder_grows(tmp_path):
    fill(tmp_path, "c/a.mp4", "c/b.mp4", "d/a.mp4")
    before = ids(tmp_path)
    fill(tmp_path, "c/a.avi", "c/a.mp4.avi")
    assert sorted(ids(tmp_path)) == sorted([*before, "c/a.avi", "c/a.mp4.avi"])


def test_undecodable_names_get_printable_ids_that_lead_back(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9 \xff.mp4"
    try:
        Path(os.fsdecode(raw)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / "new\nline\\.mp4").write_bytes(b"")
    records = {record.video_id: record.path for record in load(tmp_path).records}
    assert set(records) == {"caf\\xe9 \\xff.mp4", "new\\x0aline\\\\.mp4"}
    assert os.fsencode(records["caf\\xe9 \\xff.mp4"]) == raw
    assert file_name_of("caf\\xe9 \\xff") == os.fsdecode(b"caf\xe9 \xff")


def test_links_are_followed_and_loops_are_not_entered(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    fill(root, "real/a.mp4")
    fill(elsewhere, "b.mp4")
    (root / "aaa_link_to_real").symlink_to(root / "real")
    (root / "real" / "loop").symlink_to(root)
    (root / "linked").symlink_to(elsewhere)
    (root / "one_file.mp4").symlink_to(elsewhere / "b.mp4")
    (root / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    dataset = load(root)
    assert [r.video_id for r in dataset.records] == ["linked/b.mp4", "one_file.mp4", "real/a.mp4"]
    assert [r.video_id for r in dataset.absent] == ["gone.mp4"]
    assert "1 link leads nowhere" in dataset.note
    assert "real/loop" in dataset.note


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for ever
    fill(tmp_path, "a.mp4")
    assert ids(tmp_path) == ["a.mp4"]


def test_errors_name_the_folder_and_what_is_there(tmp_path):
    with pytest.raises(DatasetError, match="nowhere"):
        load(tmp_path / "nowhere")
    fill(tmp_path, "img_00001.jpg", "img_00002.jpg", "x.zip")
    with pytest.raises(DatasetError, match=r"found 2 \.jpg, 1 \.zip; wanted .*\.mp4"):
        load(tmp_path)
    with pytest.raises(DatasetError, match="folder .* cannot be read"):
        load(tmp_path / "x.zip")


def test_long_paths_are_cut_and_stay_apart(tmp_path):
    folder = tmp_path / ("é" * 100) / ("d" * 120)
    fill(folder, "a.mp4", "b.mp4", "c" * 100 + ".mp4")
    found = ids(tmp_path)
    assert len(set(found)) == 3
    assert all(len(video_id.encode()) <= MAX_VIDEO_ID_BYTES for video_id in found)


def test_shared_clips_keep_their_official_names(shared_data):
    dataset = load(shared_data / "clips")
    names = {Path(record.path).stem for record in dataset.records}
    assert "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6" in names
    assert {"hmdb51", "kinetics"} <= set(dataset.class_names)


raw_names = st.binary(min_size=1, max_size=60).filter(lambda raw: b"\0" not in raw)


@given(raw_names)
def test_escaping_is_reversible(raw):
    name = raw.decode("utf-8", "surrogateescape")
    escaped = escape(name)
    escaped.encode("utf-8")  # an id is text
    assert not set(escaped) & set("\n\r\t\x00\x1b\x7f\u2028\u2029")
    assert file_name_of(escaped) == name


@given(st.lists(raw_names.map(lambda raw: raw.decode("utf-8", "surrogateescape")), unique=True))
def test_ids_of_different_names_differ(names):
    assert len(set(map(id_of, names))) == len(names)
