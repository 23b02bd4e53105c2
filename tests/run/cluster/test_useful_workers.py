"""A run starts no more workers than can have work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import FAST, draw_noise_clip, in_process
from videofile import encode_video

from flowpipe import open_store
from flowpipe.run.cluster import pool


def test_one_short_video_needs_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, start = [], pool.private_cluster

    def count(workers: int, *rest: Any) -> Any:
        started.append(workers)
        return start(workers, *rest)

    monkeypatch.setattr(pool, "private_cluster", count)
    video = encode_video(tmp_path / "a.mp4", draw_noise_clip(1, frames=4))
    store = tmp_path / "store"
    done = in_process("extract", "--videos", video, "--out", store, "--workers", 8, *FAST)
    assert done.returncode == 0, done.stderr
    assert started == [1] and len(open_store(store).videos) == 1
