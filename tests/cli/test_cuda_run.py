"""`flowpipe extract --gpus 1`, from the command line to a store, on the emulator and on a GPU."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from checkout import ROOT, python_path
from command import command, draw_noise_clip, in_process
from emulated import STAND_IN, cupy_from
from real_gpu import require_cuda
from videofile import encode_video

from flowpipe.ops.cpu import native_core
from flowpipe.store import open_store

pytestmark = [
    pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels"),
]


@pytest.fixture
def videos(tmp_path):
    """Two videos of 1.2 s."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        encode_video(folder / f"{name}.mp4", draw_noise_clip(seed))
    return folder


def extract(videos, out, *options, on):
    return flowpipe_on(on, "extract", videos, out, "--verify", *options)


def flowpipe_on(on, name, videos, out, *options):
    """Run a command on the emulator in this process, or in one of its own, which a GPU gets."""
    arguments = (
        name, "--videos", videos, "--out", out,
        "--size", "64x48", "--fps", "3", "--set", "flow.warps=1", "--set", "flow.iterations=20",
        "--modalities", "rgb,flow,warped_flow,rgb_diff", *options,
    )  # fmt: skip
    if on == "emulator":
        with cupy_from(STAND_IN):
            return in_process(*arguments)
    places = [ROOT, STAND_IN] if on == "emulator's process" else [ROOT]
    return subprocess.run(
        command(*arguments), capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": python_path(*places)},
    )  # fmt: skip


@pytest.mark.parametrize("on", ["emulator", pytest.param("gpu", marks=pytest.mark.cuda)])
def test_a_store_made_on_a_gpu_is_that_of_the_cpu(on, videos, tmp_path):
    if on == "gpu":
        require_cuda()
    ran = extract(videos, tmp_path / "cuda", "--gpus", "1", on=on)
    assert ran.returncode == 0, ran.stderr
    assert "all intact" in ran.stderr and "2 done" in ran.stderr
    assert re.search(r"device: cuda, 1 of .*; [0-9]+ workers? for each GPU: ", ran.stderr)
    assert re.search(r"about .* of one core and .* of one GPU", ran.stderr)
    assert extract(videos, tmp_path / "cpu", "--device", "cpu", on=on).returncode == 0
    lines = "".join(p.read_text() for p in (tmp_path / "cuda" / "ledger").glob("*.jsonl"))
    backends = {json.loads(line)["backend"] for line in lines.splitlines()}
    assert len(backends) == 1 and min(backends).startswith("cuda-sm_")
    ours, meant = open_store(tmp_path / "cuda"), open_store(tmp_path / "cpu")
    assert list(ours.videos) == list(meant.videos)
    for video_id, video in ours.videos.items():
        assert video.images == meant.videos[video_id].images
        for modality, count in video.images.items():
            a, b = (s.snippet(video_id, modality, 0, count).astype(int) for s in (ours, meant))
            if modality in ("rgb", "rgb_diff"):
                np.testing.assert_array_equal(a, b)
            assert (np.abs(a - b) > 1).mean() <= 1e-3, modality


def messages(store):
    lines = "".join(p.read_text() for p in (store / "ledger").glob("*.jsonl"))
    return [json.loads(line)["message"] for line in lines.splitlines()]


def test_a_failing_gpu_never_quarantines_a_video(videos, tmp_path, monkeypatch):
    """After such an error every call of the process fails: another one tries again, then the next
    run does."""
    (videos / "b.mp4").unlink()
    store = tmp_path / "store"
    monkeypatch.setenv("CUDA_STAND_IN_FAILS", "quantise")
    ran = extract(videos, store, "--gpus", "1", on="emulator")
    assert ran.returncode == 1, ran.stderr
    assert "1 x gpu_failed" in ran.stderr
    assert "the GPU has failed (cudaError 700)" in messages(store)[0]
    assert not list(store.glob("quarantine/*"))
    monkeypatch.delenv("CUDA_STAND_IN_FAILS")
    again = extract(videos, store, "--gpus", "1", on="emulator")
    assert again.returncode == 0, again.stderr
    assert "1 done" in again.stderr


def test_a_gpu_that_goes_on_failing_ends_the_run(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_STAND_IN_FAILS", "quantise")
    ran = extract(videos, tmp_path / "store", "--gpus", "1", on="emulator")
    assert ran.returncode == 2, ran.stderr
    assert "GPUs failed 4 times in a row" in ran.stderr and "cudaError 700" in ran.stderr
    assert not list((tmp_path / "store").glob("quarantine/*"))


def test_a_gpu_that_cannot_be_opened_ends_the_run_before_it_begins(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_STAND_IN_OPENS", "802")
    ran = extract(videos, tmp_path / "store", "--gpus", "1", on="emulator")
    assert ran.returncode == 2, ran.stderr
    assert "the GPU cannot be opened" in ran.stderr and "nvidia-fabricmanager" in ran.stderr
    assert "Traceback" not in ran.stderr and not (tmp_path / "store").exists()


def test_a_gpu_in_exclusive_mode_serves_one_process(videos, tmp_path, monkeypatch):
    """The process that estimates the cost leaves it to the worker."""
    monkeypatch.setenv("CUDA_STAND_IN_EXCLUSIVE", str(tmp_path / "gpu"))
    store = tmp_path / "store"
    with (tmp_path / "gpu").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ran = extract(videos, store, "--gpus", "1", on="emulator's process")
    assert ran.returncode == 2, ran.stderr
    assert "the GPU cannot be opened (cudaError 46)" in ran.stderr
    assert "Traceback" not in ran.stderr and not store.exists()
    again = extract(videos, store, "--gpus", "1", on="emulator's process")
    assert again.returncode == 0, again.stderr


def test_a_plan_says_what_bounds_it_and_how_long_the_cores_would_take(videos, tmp_path):
    planned = flowpipe_on("emulator", "plan", videos, tmp_path / "store", "--gpus", "1", "--json")
    assert planned.returncode == 0, planned.stderr
    facts = json.loads(planned.stdout)
    assert facts["bound_by"] in ("gpus", "longest_shard"), "the whole run is one shard or two"
    assert facts["hours"] >= facts["gpu_hours"] > facts["core_hours"]
    assert 0 < facts["hours_without_gpus"] < facts["hours"], "the emulator is slower than the cores"
    assert facts["saved_by_one_more_core"] == 0 < facts["written_bytes_per_s"]
    assert set(facts["core_hours_by_stage"]) >= {"decode", "compute", "camera", "encode"}
    assert sum(facts["core_hours_by_stage"].values()) == pytest.approx(facts["core_hours"])
    words = flowpipe_on("emulator", "plan", videos, tmp_path / "store", "--gpus", "1").stdout
    assert "bound by" in words and "of one GPU" in words
    assert "on the cores alone" in words and "one more core saves nothing" in words


def test_auto_takes_the_cores_where_the_gpu_was_measured_to_be_slower(videos, tmp_path):
    """The emulator is slower than the cores. A requested GPU is not replaced, as tested above."""
    planned = flowpipe_on("emulator", "plan", videos, tmp_path / "store", "--json")
    facts = json.loads(planned.stdout)
    assert (facts["device"], facts["gpus"]) == ("cpu", 0)
    ran = extract(videos, tmp_path / "store", "--workers", "1", on="emulator")
    assert ran.returncode == 0, ran.stderr
    said = r"device: cpu: by measurement [0-9]+ on the cores alone, [0-9]+ with 1 GPU \(frames/s\)"
    assert re.search(said, ran.stderr), ran.stderr
    lines = "".join(p.read_text() for p in (tmp_path / "store" / "ledger").glob("*.jsonl"))
    assert all(json.loads(x)["backend"].startswith("cpu-") for x in lines.splitlines())
