"""Videos and a way to submit job scripts on them, where a Slurm is running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, python_path
from command import draw_noise_clip
from slurm_jobs import CLIPS, SCRIPTS, require_slurm
from videofile import encode_video


@pytest.fixture(scope="module")
def slurm() -> None:
    require_slurm()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(CLIPS):
        encode_video(folder / f"clip-{seed}.mp4", draw_noise_clip(seed, 80, 120, 160))
    return folder


@pytest.fixture
def submit(slurm: None, tmp_path: Path, videos: Path):
    """Submit a script on the videos; jobs that a failing test leaves are cancelled."""
    # Jobs find this flowpipe, installed or not, and flowpipe means the one under test.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("flowpipe", "dask"):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        (tools / name).chmod(0o755)
    paths = [str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": python_path(ROOT),
    }
    jobs = []

    def run(script: str, *options: str) -> str:
        done = subprocess.run(
            ["sbatch", "--parsable", "--mem-per-cpu=1000M", "--cpus-per-task=1", *options,
             SCRIPTS / script, "--videos", videos, "--out", "store"],
            capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        jobs.append(done.stdout.strip())
        return jobs[-1]

    yield run
    for job in jobs:
        subprocess.run(["scancel", "--quiet", job])


@pytest.fixture
def two_gpus(slurm: None) -> None:
    shown = subprocess.run(["sinfo", "-h", "-o", "%G"], capture_output=True, text=True)
    if "gpu:2" not in shown.stdout:
        pytest.skip(f"needs a Slurm node of two GPUs: {shown.stdout.strip()}")
