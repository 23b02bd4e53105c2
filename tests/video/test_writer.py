"""Frames -> a video file: what a writer says of a full disk and of a folder that is missing."""

from pathlib import Path

import numpy as np
import pytest

from flowpipe.errors import DiskFullError, UsageError
from flowpipe.video.writer import VideoWriter


def write(path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 96, 128, 3), dtype=np.uint8)
    with VideoWriter(path) as writer:
        for number, pixels in enumerate(frames):
            writer.add(pixels, number / 25)


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "drawn.mkv"
    path.symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match=f"no space left for video {path}"):
        write(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"video .*nowhere/x.mp4 cannot be written: No such file"):
        write(tmp_path / "nowhere" / "x.mp4")
