"""Real clips and a trained network: extract, features, localise, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
import tiny_training as training  # noqa: E402
from command import FAST, in_process  # noqa: E402
from videofile import encode_video  # noqa: E402

from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.video import open_video  # noqa: E402

FPS = 25


def test_a_bright_part_of_a_dark_clip_is_found(shared_data: Path, tmp_path: Path) -> None:
    """The network tells dark, middle and bright videos apart; a real clip is dark but for 2 s."""
    clip = min((shared_data / "clips").rglob("*.avi"), key=lambda path: path.stat().st_size)
    with open_video(clip) as video:
        frames = np.concatenate([window.data for window in video.windows()])
    frames = get_ops().resize(frames, 48, 64)
    frames = frames[np.arange(8 * FPS) % len(frames)] // 8  # dark
    frames[3 * FPS : 5 * FPS] += 200
    encode_video(tmp_path / "untrimmed.mp4", frames)
    (tmp_path / "list.csv").write_text("video_id,path,split\nuntrimmed,untrimmed.mp4,test1\n")
    store = tmp_path / "store"
    listed = ("--videos", tmp_path / "list.csv", "--out", store, "--modalities", "rgb")
    done = in_process("extract", *listed, *FAST, "--workers", 1)
    assert done.returncode == 0, done.stderr
    bright = tiny.make_store(tmp_path / "tiny")
    training.run(training.job(bright, tmp_path, "rgb", end=6))
    rows = ("--window", 5, "--stride", 5)
    found, truth = tmp_path / "found.json", tmp_path / "truth.json"
    instance = {"label": "bright", "segment": [3.0, 5.0]}
    facts = {"subset": "test", "annotations": [instance]}
    names = [{"nodeName": name, "parentName": "root"} for name in tiny.CLASSES]
    truth.write_text(json.dumps({"database": {"untrimmed": facts}, "taxonomy": names}))
    for step in (
        ("features", store, tmp_path / "rgb", "-o", tmp_path / "f.h5", *rows),
        ("localise", tmp_path / "f.h5", "-o", found, "--smooth", 0.5),
        ("evaluate", truth, found, "--tiou", "0.7", "--json"),
    ):
        done = in_process(*step)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["splits"]["test1"] == {"mAP@0.7": 1}
