"""`extract` after lists and files have changed; see ``run/reconciliation/test_reconcile.py``."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from command import FAST, Run, command, draw_noise_clip, ledger
from videofile import encode_video

from flowpipe import open_store

pytestmark = pytest.mark.usefixtures("lasting_workers")


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
        encode_video(tmp_path / f"clip-{k}.mp4", draw_noise_clip(k))
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


def read_by_a_worker(path: Path, store: Path) -> bool:
    """True if a worker of a run has the file open; the client, which only probes it, is none."""
    for heartbeat in store.glob("running/*/*.json"):
        with suppress(OSError, ValueError):
            pid = json.loads(heartbeat.read_text())["pid"]
            if heartbeat.name != "run.json":
                return any(fd.readlink() == path for fd in Path(f"/proc/{pid}/fd").iterdir())
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
    encode_video(path, draw_noise_clip(1, frames=60, height=72, width=96))
    encode_video(other, draw_noise_clip(2, frames=6))
    arguments = (
        "--videos", videos, "--out", store, "--workers", 1, "--size", "170x128",
        "--on-error", on_error,
    )  # fmt: skip
    process = subprocess.Popen(command("extract", *arguments), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not read_by_a_worker(path, store):
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
