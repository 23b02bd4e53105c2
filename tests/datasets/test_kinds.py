"""Which files of a folder are videos: known extensions, and unknown ones that decode."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command import moving_clip
from videofile import encode_video

from flowpipe.datasets import DATASETS

load = DATASETS["folder"].load


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return encode_video(tmp_path / "made" / "clip.mp4", moving_clip(1, frames=6))


@pytest.fixture(autouse=True)
def made(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()


def test_files_of_unknown_extension_are_taken_if_they_decode(clip: Path, tmp_path: Path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("none", "odd.video", ".hidden.mp4"):
        shutil.copy(clip, folder / name)
    encode_video(folder / "raw.mpeg", moving_clip(2, frames=6), codec="mpeg2video")
    (folder / "raw.mpeg").rename(folder / "raw.stream")
    (folder / "noise").write_bytes(bytes(range(256)) * 40)
    (folder / "code.ts").write_text("export const a = 1;\n" * 50)
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    (folder / "empty").touch()
    dataset = load(folder)
    assert [r.video_id for r in dataset.records] == ["none", "odd.video", "raw.stream"]
    counts = {one.kind: one.count for one in dataset.left_out}
    assert counts == {".txt": 2, "without extension": 2, ".ts": 1, "hidden .mp4": 1}
    assert "6 files left out: 2 .txt, 2 without extension" in dataset.note


def test_files_of_other_kinds_are_never_opened(clip: Path, tmp_path: Path):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(clip, folder / "a.mp4")
    shutil.copy(clip, folder / "b.jpg")  # would decode
    assert [r.video_id for r in load(folder).records] == ["a.mp4"]
