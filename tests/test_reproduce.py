"""pipelines/reproduce.py: a data set in its official layout, from real files to the fused table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import moving_clip
from conftest import ROOT
from videofile import encode_video

pytest.importorskip("torch", reason="needs torch")

RECIPE = """
extract:
  modalities: [rgb]
  size: {width: 256, height: 224}
  flow: dis
train:
  splits: [1, 2]
  streams:
    rgb: &stream
      backbone: efficientnet_lite0
      init: random
      segments: 1
      schedule: {unit: iterations, lr: 0.001, lr_steps: [], end: 1, batch_size: 2}
    flow: {<<: *stream, snippet_length: 2}
  test: {snippets: 1, crops: 1}
  fusion: {rgb: 1, flow: 1.5}
"""


def make_ucf101(root: Path) -> None:
    """Two classes, a video each for training and testing; the split's halves change places in 2."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_bytes(b"1 Archery\r\n2 Biking\r\n")
    names = [f"{c}/v_{c}_g0{g}_c01.avi" for g in (1, 2) for c in ("Archery", "Biking")]
    for k, name in enumerate(names):
        path = root / "UCF-101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_video(path, moving_clip(k, frames=6))
    for split, (train, test) in enumerate(((2, 0), (0, 2), (2, 0)), 1):
        rows = [f"{names[train + k]} {k + 1}\r\n" for k in (0, 1)]
        (lists / f"trainlist0{split}.txt").write_text("".join(rows))
        rows = [f"{names[test + k]}\r\n" for k in (0, 1)]
        (lists / f"testlist0{split}.txt").write_text("".join(rows))


def test_from_videos_to_the_fused_table(tmp_path: Path) -> None:
    make_ucf101(tmp_path / "ucf101")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    command = [
        sys.executable, ROOT / "pipelines" / "reproduce.py", "ucf101", "--root",
        tmp_path / "ucf101", "--work", tmp_path / "work", "--recipe", tmp_path / "recipe.yaml",
        "--workers", "1", "--set", "train.streams.rgb.dropout=0.2",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "work" / "table.json").read_text())
    assert list(figures) == ["rgb", "flow", "fused"]
    assert list(figures["fused"]) == ["test1", "test2", "mean"]
    accuracy = [figures["fused"][c]["accuracy"] for c in ("test1", "test2", "mean")]
    assert accuracy[2] == pytest.approx(sum(accuracy[:2]) / 2)
    assert "fused" in done.stdout.splitlines()[-1]
    steps = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert steps.count("train") == steps.count("test") == 4 and steps.count("fuse") == 2
    run = json.loads((tmp_path / "work" / "rgb-1" / "run.json").read_text())
    assert run["stream"]["dropout"] == 0.2


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("extract: {}\n")
    command = [sys.executable, ROOT / "pipelines" / "reproduce.py", "ucf101", "--work", tmp_path]
    done = subprocess.run(
        [*command, "--recipe", tmp_path / "bare.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "has no train section" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "needs --root" in done.stderr
    assert "flowpipe extract ended with 2" in done.stderr
