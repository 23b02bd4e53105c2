"""Absent, unlisted and unreadable videos of a data set are reported before a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import FAST, Run, draw_noise_clip
from videofile import encode_video

from flowpipe import open_store

pytestmark = pytest.mark.usefixtures("lasting_workers")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Two good clips, an empty one and a list that also names two that are not there."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate(("walk", "run")):
        encode_video(folder / f"{name}.mp4", draw_noise_clip(number, frames=6))
    (folder / "empty.mp4").write_bytes(b"")
    rows = ("walk", "gone", "run", "empty", "lost")
    lines = [f"{name},{name}.mp4,class {name},train1" for name in rows]
    (folder / "list.csv").write_text("\n".join(["video_id,path,label,split", *lines]) + "\n")
    return folder


def test_absent_videos_stop_a_run_unless_allowed(listed: Path, tmp_path: Path, flowpipe: Run):
    options = ("--videos", listed / "list.csv", "--out", tmp_path / "store", *FAST)
    refused = flowpipe("extract", *options)
    assert refused.returncode == 2
    assert "2 videos listed but absent: gone, lost" in refused.stderr
    assert "1 video unreadable (1 x the file has no bytes): empty" in refused.stderr
    assert refused.stderr.count("--allow-missing") == 1
    assert not (tmp_path / "store" / "store.json").exists()
    told = (tmp_path / "store" / "missing.txt").read_text().splitlines()
    assert [line.split("\t")[:2] for line in told] == [
        ["absent", "gone"], ["absent", "lost"], ["empty", "empty"]
    ]  # fmt: skip

    allowed = flowpipe("extract", *options, "--allow-missing")
    assert allowed.returncode == 1  # the empty file is a failure; absent ones are not
    assert allowed.stderr.count("listed but absent") == 1
    store = open_store(tmp_path / "store")
    assert store.header.class_names == tuple(
        f"class {name}" for name in ("empty", "gone", "lost", "run", "walk")
    )
    assert {key: video.labels for key, video in store.videos.items()} == {"run": (3,), "walk": (4,)}

    (listed / "empty.mp4").unlink()
    for name in ("gone", "lost", "empty"):
        encode_video(listed / f"{name}.mp4", draw_noise_clip(3, frames=6))
    whole = flowpipe("extract", *options)
    assert whole.returncode == 0, whole.stderr
    assert not (tmp_path / "store" / "missing.txt").exists()
    store = open_store(tmp_path / "store")
    assert {key: video.labels[0] for key, video in store.videos.items()} == {
        "empty": 0, "gone": 1, "lost": 2, "run": 3, "walk": 4
    }  # fmt: skip


def test_plan_lists_absent_and_unlisted_videos_and_writes_nothing(
    listed: Path, tmp_path: Path, flowpipe: Run
):
    options = ("--videos", listed / "list.csv", "--out", tmp_path / "store", *FAST)
    planned = flowpipe("plan", *options)
    assert planned.returncode == 0
    for line in ("absent\tgone", "absent\tlost", "empty\tempty\t"):
        assert line in planned.stdout
    facts = json.loads(flowpipe("plan", *options, "--json").stdout)
    assert (facts["videos_absent"], facts["videos_unreadable"]) == (2, 1)
    assert not (tmp_path / "store").exists()


def test_unreadable_videos_are_listed_at_the_end(tmp_path: Path, flowpipe: Run):
    folder = tmp_path / "clips"
    folder.mkdir()
    encode_video(folder / "good.mp4", draw_noise_clip(1, frames=6))
    (folder / "noise.mp4").write_bytes(b"no video at all" * 100)
    done = flowpipe("extract", "--videos", folder, "--out", tmp_path / "store", *FAST)
    assert done.returncode == 1
    (line,) = (tmp_path / "store" / "missing.txt").read_text().splitlines()
    reason, video_id, message = line.split("\t")
    assert (reason, video_id) == ("unreadable", "noise.mp4")
    assert "noise.mp4" in message
    assert "1 video unreadable" in done.stderr


def test_only_takes_splits_and_class_names_set_the_labels(
    listed: Path, tmp_path: Path, flowpipe: Run
):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {n}\n" for n in ("walk", "run", "gone", "lost", "empty")))
    lines = (listed / "list.csv").read_text()
    (listed / "list.csv").write_text(lines.replace("class run,train1", "class run,test1"))
    options = ("--videos", listed / "list.csv", "--class-names", names, *FAST)
    done = flowpipe("extract", *options, "--only", "test1", "--out", tmp_path / "store")
    assert done.returncode == 0, done.stderr  # nothing of test1 is absent
    store = open_store(tmp_path / "store")
    assert {key: video.labels for key, video in store.videos.items()} == {"run": (1,)}
    assert store.header.dataset["only"] == ["test1"]
    wrong = flowpipe("extract", *options, "--only", "test2", "--out", tmp_path / "other")
    assert wrong.returncode == 2 and "known: test1, train1" in wrong.stderr
    wrong = flowpipe(
        "extract", "--videos", listed, "--annotations", names, "--out", tmp_path / "other"
    )
    assert wrong.returncode == 2 and "--annotations belongs to" in wrong.stderr


def test_a_wrong_list_is_reported_with_the_nearest_file_and_its_counts_compared(
    listed: Path, tmp_path: Path, flowpipe: Run
):
    path = tmp_path / "list.txt"
    path.write_text("clips/walk.mp4 6 1\nclips/rum.mp4 7 0\n")
    options = ("--videos", path, "--out", tmp_path / "store", *FAST)
    refused = flowpipe("extract", *options)
    assert refused.returncode == 2
    told = f"{path}:2: no file {listed}/rum.mp4; did you mean {listed}/run.mp4?"
    assert told in refused.stderr
    assert told in (tmp_path / "store" / "missing.txt").read_text()
    assert "read as 'path num_frames label ...'" in refused.stderr

    path.write_text("clips/walk.mp4 6 1\nclips/run.mp4 7 0 2\n")
    done = flowpipe("extract", *options)
    assert done.returncode == 0, done.stderr
    told = "1 of 2 videos has another frame count than the list says, first: clips/run.mp4 6"
    assert f"{told} instead of 7" in done.stderr
    store = open_store(tmp_path / "store")
    assert store.videos["clips/run.mp4"].labels == (0, 2)


def test_root_is_where_the_paths_of_a_list_start(listed: Path, tmp_path: Path, flowpipe: Run):
    path = tmp_path / "lists" / "list.txt"
    path.parent.mkdir()
    path.write_text(f"walk.mp4\n{listed}/run.mp4\n")
    options = ("--videos", path, "--root", listed, *FAST)
    done = flowpipe("extract", *options, "--out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert list(open_store(tmp_path / "store").videos) == ["run.mp4", "walk.mp4"]
    verified = flowpipe("verify", tmp_path / "store")  # which lists the videos again
    assert verified.returncode == 0, verified.stderr
    wrong = flowpipe("extract", "--videos", listed, "--root", tmp_path, "--out", tmp_path / "o")
    assert wrong.returncode == 2 and "is a folder, so leave --root out" in wrong.stderr
