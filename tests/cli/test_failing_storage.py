"""Storage that fails while healthy videos are read: real EIO from preloaded calls."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, python_path
from command import FAST, draw_noise_clip, ledger
from videofile import encode_video

from flowpipe import open_store

FOUR = ("a.mp4", "b.mkv", "c.avi", "d.ts")
Extract = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and LD_PRELOAD")
    library = tmp_path_factory.mktemp("shim") / "failing_reads.so"
    source = ROOT / "tests" / "support" / "failing_reads.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def extract(shim: Path, tmp_path: Path) -> Extract:
    """Run extract while so many reads of each of the files `victims` fail behind so many bytes."""

    def call(
        videos: Path, victims: Sequence[str], failures: int, after: int, *more: object
    ) -> subprocess.CompletedProcess[str]:
        count = tmp_path / "count"
        for victim in victims:
            for number in range(failures):
                (count / victim).mkdir(parents=True, exist_ok=True)
                (count / victim / str(number)).touch()
        env = {
            **os.environ, "LD_PRELOAD": str(shim), "FAILING_READS_PATH": f"{videos}/",
            "FAILING_READS_COUNT": str(count), "FAILING_READS_AFTER": str(after),
        }  # fmt: skip
        command = [
            sys.executable, "-m", "flowpipe", "extract", "--videos", videos,
            "--out", tmp_path / "store", "--workers", 1, *FAST, *more,
        ]  # fmt: skip
        done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)
        for victim in victims:
            left = len(list((count / victim).iterdir()))
            assert left < failures, f"reads of {victim} must have failed"
        shutil.rmtree(count, ignore_errors=True)
        return done

    return call


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video in each of four containers."""
    folder = tmp_path_factory.mktemp("four")
    noise = np.random.default_rng(3).integers(0, 256, (40, 96, 128, 3), np.uint8)
    for name in FOUR:
        encode_video(folder / name, noise)
    return folder


@pytest.fixture(scope="module")
def answers(shim: Path, four: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the library answers while calls on one video, or on files of a store of it, fail."""
    folder = tmp_path_factory.mktemp("calls")
    video, store = folder / "videos" / "a.mp4", folder / "store"
    video.parent.mkdir()
    encode_video(video, draw_noise_clip(1, frames=40))
    (video.parent / "link.mp4").symlink_to(video)
    shutil.copy(video, video.parent / "odd.qqq")
    run = [sys.executable, "-m", "flowpipe", "extract", "--videos", video, "--out", store, *FAST]
    subprocess.run(list(map(str, run)), check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "failing_calls.py", video, store, four],
        env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": python_path(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


TAKEN = {
    "sort": True,
    "walk": True,
    "verify": False,
    "repair": 2,
    "extract": 2,
    "touched": [1, ["a.mp4"]],
    "moved": [1, ["a.mp4"]],
}
"""Answers that are no error: a file is taken, for its worker says what is wrong with it; a check
that could not run is not a pass; a command ends with exit code 2."""


def test_every_failing_call_is_an_error_of_the_storage(answers: dict[str, object]) -> None:
    wanted = {case: TAKEN.get(case.split(":")[0].split()[0], "io") for case in answers}
    assert len(answers) == 2 * 45
    assert answers == wanted


@pytest.mark.parametrize("policy", ["skip", "partial"])
def test_reads_that_fail_for_a_while_lose_no_video(
    policy: str, four: Path, tmp_path: Path, extract: Extract
) -> None:
    done = extract(four, FOUR, 2, 60_000, "--on-error", policy)
    assert done.returncode == 0, done.stderr
    assert {o["status"] for o in ledger(tmp_path / "store")} == {"done"}
    videos = open_store(tmp_path / "store").videos
    assert {name: video.frames for name, video in videos.items()} == dict.fromkeys(FOUR, 40)


def test_storage_that_stays_broken_is_no_damage_and_the_next_run_tries_again(
    four: Path, tmp_path: Path, extract: Extract
) -> None:
    store = tmp_path / "store"
    broken = extract(four, ["d.ts"], 10_000, 60_000, "--on-error", "partial")
    assert broken.returncode == 1, broken.stderr
    (failure,) = [o for o in ledger(store) if o["status"] != "done"]
    assert (failure["status"], failure["reason"]) == ("failed", "io"), failure
    assert "Input/output error" in str(failure["message"])
    again = extract(four, [], 0, 0, "--on-error", "partial")
    assert again.returncode == 0, again.stderr
    assert "3 done before, 0 in quarantine" in again.stderr
    assert {v.frames for v in open_store(store).videos.values()} == {40}
    assert not any((store / "quarantine").iterdir())
