"""A second `extract` after lists or files have changed: the store is what they say now."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from command import FAST, Run, command, images, ledger, moving_clip
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


def read_by_a_worker(path: Path, client: int) -> bool:
    """Whether a process other than the client, which probes it, has the file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if int(link.parts[2]) != client and link.readlink() == path:
                return True
    return False


@pytest.mark.parametrize(
    "how, on_error", [("rename", "skip"), ("overwrite", "partial"), ("cut", "partial")]
)
def test_a_file_that_changes_while_it_is_read_is_not_stored(
    how: str, on_error: str, tmp_path: Path, flowpipe: Run
) -> None:
    videos, other, store = tmp_path / "videos", tmp_path / "other.mp4", tmp_path / "store"
    videos.mkdir()
    path = videos / "a.mp4"
    encode_video(path, moving_clip(1, frames=120, height=72, width=96))
    encode_video(other, moving_clip(2))
    arguments = ("--videos", videos, "--out", store, "--workers", 1, "--on-error", on_error)
    process = subprocess.Popen(command("extract", *arguments), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not read_by_a_worker(path, process.pid):
        time.sleep(0.005)
    time.sleep(0.05)
    if how == "rename":
        other.replace(path)
    elif how == "overwrite":
        path.write_bytes(other.read_bytes())
    else:
        path.write_bytes(path.read_bytes()[:3000])
    process.communicate()
    assert [line["reason"] for line in ledger(store)] == ["changed"]
    assert not list((store / "shards").iterdir())
    if how != "cut":
        assert flowpipe("extract", *arguments).returncode == 0
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert open_store(store).videos["a.mp4"].meta["source"]["sha256"] == digest


def test_retry_reaches_partial_videos(tmp_path: Path, flowpipe: Run) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    encode_video(videos / "a.mp4", moving_clip(1))
    encode_video(videos / "b.mkv", moving_clip(2, frames=90))
    content = (videos / "b.mkv").read_bytes()
    (videos / "b.mkv").write_bytes(content[: len(content) * 2 // 3])
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    partial = ("--on-error", "partial")
    assert flowpipe(*arguments, *partial).returncode in (0, 1)
    assert open_store(store).videos["b.mkv"].status == "partial"
    before = images(store)
    again = flowpipe(*arguments, *partial, "--retry", "all")
    assert "1 stored in part are tried again" in again.stderr
    assert "1 to extract, 1 done before" in again.stderr
    assert len(open_store(store).catalogue.table.ids) == 2
    failed = flowpipe(*arguments, "--on-error", "skip", "--retry", "corrupt")
    assert "1 to extract, 1 done before" in failed.stderr
    assert failed.returncode == 1
    assert images(store) == before
    assert "tried again" not in flowpipe(*arguments, "--retry", "too_small").stderr
