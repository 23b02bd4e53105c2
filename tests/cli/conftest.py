"""A folder of small real videos, and the command run as a user would."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import Run, command, moving_clip
from videofile import encode_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sound videos in two class folders."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(8):
        path = folder / f"class {seed % 2}" / f"clip-{seed}.mp4"
        path.parent.mkdir(exist_ok=True)
        encode_video(path, moving_clip(seed))
    return folder


@pytest.fixture
def flowpipe() -> Run:
    """Run `flowpipe ...` in a process of its own and wait for it."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=280, **options
        )

    return run
