"""Every real and every nasty file through `flowpipe extract`: a sensible outcome each, no flood."""

from __future__ import annotations

import json
from pathlib import Path

from command import Run

from flowpipe import open_store
from flowpipe.errors import REASONS

REFUSED = {
    # what cannot be a video, and why; everything else in the folder has to be stored
    "sine_mono_s16": "no_video",
    "sine_stereo_mp2": "no_video",
}


def test_nasty_files(shared_data: Path, tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    done = flowpipe(
        "extract", "--videos", shared_data / "nasty", "--out", store, "--workers", 2,
        "--set", "flow=dis", "--modalities", "rgb,flow,warped_flow,rgb_diff",
        "--on-error", "partial", "--size", "96x64",
    )  # fmt: skip
    lines = [line for f in (store / "ledger").iterdir() for line in f.open()]
    outcomes = {o["video_id"]: o for o in map(json.loads, lines)}
    failed = {name: o["reason"] for name, o in outcomes.items() if o["status"] == "failed"}
    assert done.returncode == (1 if failed else 0), done.stderr
    assert set(failed.values()) <= set(REASONS) - {"error", "crashed", "stalled"}, failed
    assert {name: reason for name, reason in failed.items() if name in REFUSED} == {
        name: reason for name, reason in REFUSED.items() if name in outcomes
    }
    videos = open_store(store).videos
    assert set(videos) == set(outcomes) - set(failed)
    for name, video in videos.items():
        pairs = video.frames - 1
        assert video.images == {
            "rgb": video.frames, "flow": pairs, "warped_flow": pairs, "rgb_diff": pairs,
        }, name  # fmt: skip
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 20 + 2 * len(failed)
    assert flowpipe("verify", store).returncode == 0


def test_real_clips(shared_data: Path, tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    done = flowpipe(
        "extract", "--videos", shared_data / "clips", "--out", store, "--workers", 2,
        "--set", "flow=dis", "--short-side", "64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    videos = open_store(store).videos
    assert len(videos) == sum(1 for p in (shared_data / "clips").rglob("*.*") if p.is_file())
    assert all(min(video.size["rgb"]) == 64 for video in videos.values())
    assert len(done.stderr.splitlines()) < 30
