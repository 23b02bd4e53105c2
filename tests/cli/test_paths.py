"""Odd paths, typos and exit codes: wrong use is refused before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import FAST, Run

from flowpipe import open_store
from flowpipe.cli import exit_code
from flowpipe.errors import DatasetError, DecodeError, RecipeError, RemoteError, UsageError


def refuse(done, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("out", ["s3://bucket/store", "file:///tmp/store", ""])
def test_a_store_is_not_written_to_a_url(out: str, clips: Path, tmp_path: Path, flowpipe: Run):
    done = flowpipe("plan", "--videos", clips, "--out", out, *FAST, cwd=tmp_path)
    refuse(done, "--out", "is a URL" if out else "empty")
    assert not list(tmp_path.iterdir())


def test_a_store_does_not_mix_with_its_sources(clips: Path, tmp_path: Path, flowpipe: Run):
    for out in (clips, clips / "store", clips.parent):
        refuse(flowpipe("plan", "--videos", clips, "--out", out, *FAST), "would mix")
    file = tmp_path / "file"
    file.touch()
    refuse(flowpipe("plan", "--videos", clips, "--out", file, *FAST), "is a file")
    refuse(
        flowpipe("plan", "--videos", clips, "--out", file / "x", *FAST), "is a file, not a folder"
    )


def test_devices_pipes_and_binaries_are_no_lists(tmp_path: Path, flowpipe: Run):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 40)
    for odd in ("/dev/zero", tmp_path / "pipe"):
        refuse(flowpipe("plan", "--videos", odd, "--out", tmp_path / "s"), "device, pipe")
    refuse(flowpipe("plan", "--videos", tmp_path / "binary", "--out", tmp_path / "s"), "binary")


def test_a_single_video_file_is_extracted(clips: Path, tmp_path: Path, flowpipe: Run):
    done = flowpipe("extract", "--videos", clips / "class 0/clip-0.mp4", "--out", tmp_path / "s",
                    "--workers", 1, *FAST)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(open_store(tmp_path / "s").videos) == ["clip-0.mp4"]


def test_typos_get_suggestions(clips: Path, tmp_path: Path, flowpipe: Run):
    common = ("plan", "--videos", clips, "--out", tmp_path / "s")
    refuse(flowpipe("extrct"), "did you mean extract?")
    refuse(flowpipe(*common, "--retry", "corupt"), "did you mean corrupt?")
    refuse(flowpipe(*common, "--modalities", ""), "--modalities is empty")
    refuse(flowpipe(*common, "--only", "train1"), "have none")


def test_exit_codes_follow_what_is_at_fault():
    assert exit_code(DatasetError("x", reason="video_id")) == 2
    assert [exit_code(kind("x")) for kind in (UsageError, RecipeError, RemoteError)] == [2, 2, 2]
    assert exit_code(DecodeError("x")) == 1
