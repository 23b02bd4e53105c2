"""Two extractions of one store at once: one continues, the other is refused and leaves no trace."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command import FAST, Run, wait_for

from flowpipe.run.claims import claim_store
from flowpipe.store import open_store

pytestmark = pytest.mark.usefixtures("lasting_workers")
Running = Callable[..., "subprocess.Popen[str]"]


def slow(videos: Path, store: Path) -> tuple[object, ...]:
    """A run that is far from its end when the next one has started."""
    return (
        "extract", "--videos", videos, "--out", store, "--workers", 2, "--size", "64x48",
        "--set", "flow.epsilon=0", "--set", "flow.iterations=1200",
    )  # fmt: skip


def test_a_second_extract_is_refused_and_the_store_ends_whole(
    clips: Path, tmp_path: Path, flowpipe: Run, running: Running
) -> None:
    store = tmp_path / "store"
    videos = clips / "class 0"
    first = running(*slow(videos, store))
    wait_for(lambda: any(store.glob("running/*/run.json")))
    second = flowpipe(*slow(videos, store))
    assert second.returncode == 2, second.stderr
    assert f"another run is extracting into {store} (host " in second.stderr
    assert f"process {first.pid}" in second.stderr
    planned = flowpipe("plan", *slow(videos, store)[1:])
    assert planned.returncode == 0, "a plan is never blocked"
    _, stderr = first.communicate(timeout=200)
    assert first.returncode == 0, stderr
    assert flowpipe("verify", store).returncode == 0
    assert len(list(store.glob("ledger/*.jsonl"))) == 1, "the refused run left no ledger"
    assert not (store / "running").exists()


def test_extracts_that_begin_together_store_each_video_once(
    clips: Path, tmp_path: Path, flowpipe: Run, running: Running
) -> None:
    """The later one is refused, or finds that the earlier one has ended and does nothing."""
    store = tmp_path / "store"
    command = ("extract", "--videos", clips / "class 0", "--out", store, "--workers", 1, *FAST)
    both = [running(*command), running(*command)]
    codes = []
    for process in both:
        _, stderr = process.communicate(timeout=200)
        codes.append(process.returncode)
        assert process.returncode in (0, 2), stderr
    assert 0 in codes
    told = [line for path in store.glob("ledger/*.jsonl") for line in path.open()]
    assert len(told) == len(open_store(store).videos) == 4
    assert flowpipe("verify", store).returncode == 0


def test_a_killed_extract_does_not_block_the_next(
    clips: Path, tmp_path: Path, flowpipe: Run, running: Running
) -> None:
    store = tmp_path / "store"
    command = ("extract", "--videos", clips / "class 0", "--out", store, "--workers", 1, *FAST)
    process = running(*command)
    wait_for(lambda: any(store.glob("running/*/run.json")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = flowpipe(*command)
    assert again.returncode == 0, again.stderr
    assert "waiting" not in again.stderr


def test_a_repair_is_a_run_and_reading_is_not(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    made = flowpipe("extract", "--videos", clips / "class 0", "--out", store, "--workers", 1, *FAST)
    assert made.returncode == 0, made.stderr
    shard = next(store.glob("shards/shard-*.h5"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with claim_store(store):
        refused = flowpipe("verify", store, "--repair")
        assert refused.returncode == 2, refused.stderr
        assert "another run is extracting into" in refused.stderr
        assert shard.read_bytes() == content
        assert flowpipe("verify", store).returncode == 1
    repaired = flowpipe("verify", store, "--repair")
    assert repaired.returncode == 0, repaired.stderr
