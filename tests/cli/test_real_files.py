"""Every real and every nasty file through `flowpipe extract`: each has the expected outcome."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Run

from flowpipe import open_store
from flowpipe.datasets.file_kinds import VIDEO_EXTENSIONS

pytestmark = pytest.mark.usefixtures("lasting_workers")
EVERYTHING = "rgb,flow,warped_flow,rgb_diff"


def ledger(store: Path) -> dict[str, dict[str, object]]:
    lines = [line for f in (store / "ledger").iterdir() for line in f.open()]
    return {outcome["video_id"]: outcome for outcome in map(json.loads, lines)}


def test_every_nasty_file_has_its_outcome(shared_data: Path, tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    arguments = (
        "extract", "--videos", shared_data / "nasty", "--out", store, "--workers", 1,
        "--set", "flow=dis", "--size", "64x48", "--modalities", EVERYTHING,
    )  # fmt: skip
    done = flowpipe(*arguments, "--on-error", "skip")
    outcomes = ledger(store)
    files = [p for p in (shared_data / "nasty").iterdir() if p.suffix in VIDEO_EXTENSIONS]
    assert len(outcomes) == len(files) > 50
    # All of them decode to their end, however odd; one is really damaged.
    damaged = "decord_corrupted.mp4"
    odd = {name: (o["status"], o["reason"]) for name, o in outcomes.items() if o["reason"]}
    assert odd == {damaged: ("failed", "corrupt")}
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 25
    assert set(open_store(store).videos) == set(outcomes) - {damaged}
    kept = flowpipe(*arguments, "--on-error", "partial")
    assert kept.returncode == 0, kept.stderr
    assert open_store(store).videos[damaged].meta["status"] == "partial"
    for name, video in open_store(store).videos.items():
        pairs = video.frames - 1
        assert video.images == {
            "rgb": video.frames, "flow": pairs, "warped_flow": pairs, "rgb_diff": pairs,
        }, name  # fmt: skip
    assert flowpipe("verify", store).returncode == 0


def test_every_real_clip_is_stored(shared_data: Path, tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    done = flowpipe(
        "extract", "--videos", shared_data / "clips", "--out", store, "--workers", 1,
        "--set", "flow=dis", "--short-side", "64", "--modalities", "rgb,flow",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    videos = open_store(store).videos
    assert len(videos) == sum(1 for p in (shared_data / "clips").rglob("*.*") if p.is_file())
    assert all(min(video.size["rgb"]) == 64 for video in videos.values())
    assert len(done.stderr.splitlines()) < 30
