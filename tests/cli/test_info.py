"""`flowpipe info` on stores, videos and runs, and on paths that are none of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import in_process
from store_making import RECIPE, Made, add_video, open_writer

from flowpipe import params
from flowpipe.store import create_store

RUN = {
    "modality": "flow", "split": 1, "dataset": "ucf101", "also": ["folder"], "adopted": "",
    "class_names": ["jump"],
    "stream": {
        "backbone": "bninception", "segments": 1, "snippet_length": 5, "consensus": "average",
        "dropout": 0.7, "sampling": "tsn_pytorch", "pixels": "backbone",
    },
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    create_store(
        path, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={"dataset": "folder", "root": "/videos"}, class_names=("a", "b", "c", "d"),
    )  # fmt: skip
    with open_writer(path / "shards" / "shard-000000000000.h5") as writer:
        add_video(writer, Made(path), "still", 1, np.random.default_rng(0))
        writer.publish()
    return path


def told(*words: object) -> dict[str, str]:
    """The rows that `flowpipe info` prints, by heading."""
    done = in_process("info", *words)
    assert done.returncode == 0, done.stderr
    rows = (line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    return {row[0]: row[1].strip() for row in rows if row[0]}


def test_a_store_of_one_video_of_one_frame(store: Path) -> None:
    rows = told(store)
    assert (rows["videos"], rows["frames"], rows["splits"]) == ("1", "1", "train1 1")
    assert rows["images"] == "rgb 1, flow 0, of 8x6 pixels"
    assert " in 1 shard, format " in rows["store"]
    assert list(rows)[:2] == ["store", "videos"]  # what it holds comes before how it was made
    assert json.loads(in_process("info", store, "--json").stdout)["sizes"] == {"8x6": 1}


def test_a_video_of_one_frame_has_no_rate(store: Path) -> None:
    rows = told(store, "still")
    assert rows["frames"].startswith("1, at ") and "per second" not in rows["frames"]


def test_a_run_is_described(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "last.pt").touch()
    assert told(tmp_path)["trained"] == "no epoch yet"
    (tmp_path / "log.csv").write_text("epoch,val_accuracy\n1,0.25\n2,0.5\n3,\n")
    rows = told(tmp_path)
    assert rows["stream"] == "flow, split 1" and rows["data set"] == "ucf101, folder"
    assert rows["network"].startswith("bninception, 1 segment of 5 images, consensus average")
    assert rows["trained"] == "3 epochs; best validation accuracy 50.00 % in epoch 2"
    assert rows["checkpoints"] == "last" and "adopted from" not in rows
    facts = json.loads(in_process("info", tmp_path, "--json").stdout)
    assert facts["epochs"][2] == {"epoch": 3.0, "val_accuracy": None}
    done = in_process("info", tmp_path, "v")
    assert done.returncode == 2 and "is a run, which has no videos" in done.stderr


def test_paths_that_are_neither_are_said(store: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    for path, words in (
        (tmp_path / "clip.mp4", "is a file; wanted a folder"),
        (tmp_path / "nowhere", "does not exist"),
        (store / "shards", "has no store.json or run.json"),
    ):
        done = in_process("info", path)
        assert done.returncode == 2 and words in done.stderr, done.stderr
