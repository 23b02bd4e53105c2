"""Job scripts of pipelines/slurm as real jobs on cores."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from slurm_jobs import CLIPS, ended, logs, states, wait_until

from flowpipe import open_store

pytestmark = pytest.mark.timeout(900)
"""Jobs wait for each other where one machine is the whole Slurm."""


def stored_whole(store: Path) -> None:
    opened = open_store(store)
    assert {video.frames for video in opened.videos.values()} == {80}
    assert len(opened.videos) == CLIPS
    assert not [path for path in (store / "shards").iterdir() if path.suffix != ".h5"]


def test_array_of_two_cancelled_and_submitted_again(submit, tmp_path):
    store = tmp_path / "store"
    first = submit("array.sh", "--array=1-2")
    wait_until(lambda: any(store.glob("shards/shard-*.h5")) or ended(first))
    subprocess.run(["scancel", first], check=True)
    wait_until(lambda: ended(first))
    kept = {path: path.stat().st_mtime_ns for path in store.glob("shards/shard-*.h5")}
    assert kept

    again = submit("array.sh", "--array=1-2")
    wait_until(lambda: ended(again))
    assert states(again) == {"1": "COMPLETED", "2": "COMPLETED"}, logs(tmp_path)
    stored_whole(store)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # none was made twice


def test_task_queues_again_before_its_time_is_up(submit, tmp_path):
    job = submit("array.sh", "--array=1-1")
    wait_until(lambda: any((tmp_path / "store").glob("shards/shard-*.h5")) or ended(job))
    # What --signal=B:USR1@120 has Slurm do.
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_1"], check=True)
    wait_until(lambda: states(job) == {"1": "PENDING"} or ended(job))
    assert states(job) == {"1": "PENDING"}, logs(tmp_path)
    assert "the time is up, task 1 queues again" in logs(tmp_path)
    assert "finished videos are kept" in logs(tmp_path)


def test_array_that_misses_shares_is_refused(submit, tmp_path):
    job = submit("array.sh", "--array=2,3")
    wait_until(lambda: ended(job))
    assert set(states(job).values()) == {"FAILED"}
    assert "submit with --array=1-N" in logs(tmp_path)
    assert not (tmp_path / "store").exists()


def test_dask_cluster_within_a_job(submit, tmp_path):
    job = submit("dask.sh", "--ntasks=2")
    wait_until(lambda: ended(job))
    assert set(states(job).values()) == {"COMPLETED"}, logs(tmp_path)
    stored_whole(tmp_path / "store")
    (log,) = tmp_path.glob("flowpipe-*.dask.log")
    assert log.read_text().count("Register worker addr: tls://") == 2, "each task is a worker"
    assert not list(tmp_path.glob("*.cluster"))  # it held the key
    flow = open_store(tmp_path / "store").flow("clip-0.mp4", "flow", 0, 79)
    assert abs(float(np.median(flow[:, 0])) + 340 / 160) < 0.5  # it drifts left by a pixel a frame
