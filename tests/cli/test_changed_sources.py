"""A second `extract` after lists or files have changed: the store is what they say now."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from command import FAST, Run, images, moving_clip
from videofile import encode_video

from flowpipe import open_store


def shard_bytes(store: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (store / "shards").iterdir()
    }


def write_list(path: Path, *labels: str) -> Path:
    lines = [f"clip-{k}.mp4,{label},train{k + 1}" for k, label in enumerate(labels)]
    path.write_text("\n".join(["path,label,split", *lines]) + "\n")
    return path


def test_corrected_labels_are_stored_without_decoding(tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    for k in range(2):
        encode_video(tmp_path / f"clip-{k}.mp4", moving_clip(k))
    videos = write_list(tmp_path / "list.csv", "0", "1")
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*arguments).returncode == 0
    before = shard_bytes(store)
    write_list(videos, "1", "0")
    done = flowpipe(*arguments)
    assert done.returncode == 0, done.stderr
    assert "2 done before have other labels now" in done.stderr
    assert [v.labels for v in open_store(store).videos.values()] == [(1,), (0,)]
    assert shard_bytes(store) == before
    assert "other labels" not in flowpipe(*arguments).stderr


def test_a_replaced_file_replaces_its_video(tmp_path: Path, flowpipe: Run) -> None:
    videos, store, other = tmp_path / "videos", tmp_path / "store", tmp_path / "other"
    videos.mkdir()
    for k in range(3):
        encode_video(videos / f"{k}.mp4", moving_clip(k))
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*arguments).returncode == 0
    for seed in (7, 8):  # whichever shard comes first by name
        encode_video(videos / "1.mp4", moving_clip(seed))
        done = flowpipe(*arguments)
        assert done.returncode == 0, done.stderr
        assert "1 done before have other bytes now" in done.stderr
        shutil.rmtree(other, ignore_errors=True)
        assert flowpipe(*arguments[:4], other, *arguments[5:]).returncode == 0
        assert images(store) == images(other)
    assert "0 to extract, 3 done before" in flowpipe(*arguments).stderr
    assert flowpipe("verify", store).returncode == 0
    assert sum(open_store(store).catalogue.columns["parts"]) == 3


def test_moved_file_keeps_its_id(tmp_path: Path, flowpipe: Run) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    encode_video(videos / "a.mp4", moving_clip(1))
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*arguments).returncode == 0
    (videos / "a.mp4").rename(videos / "b.mp4")
    done = flowpipe(*arguments)
    assert "0 to extract, 1 done before" in done.stderr
    assert list(open_store(store).videos) == ["a.mp4"]
