"""The `flowpipe` command in this process or its own, small clips for it, and waits for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from flowpipe import open_store
from flowpipe.cli import main

FAST = ("--set", "flow=dis", "--size", "64x48")
"""DIS flow on tiny frames: these tests are about the run, not about the flow."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def command(*arguments: object) -> list[str]:
    """Return the command line of `flowpipe` in the interpreter of the tests."""
    return [sys.executable, "-m", "flowpipe", *map(str, arguments)]


def in_process(*arguments: object, cwd: str | Path = ".") -> subprocess.CompletedProcess[str]:
    """Run `flowpipe ...` in this process, for tests of what a command computes, says and refuses.

    It saves the half second or more in which a process of its own would load libraries. What the
    processes write that it starts is captured too. Bytes that are not UTF-8 become surrogates.
    """
    before, code = Path.cwd(), None
    with warnings.catch_warnings(), capture(1) as out, capture(2) as err:
        for category in (DeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)  # as Python does, and pytest does not
        os.chdir(cwd)
        try:
            main(list(map(str, arguments)))
        except SystemExit as ended:
            code = ended.code
        finally:
            os.chdir(before)
    assert isinstance(code, int), "main ends by itself"
    return subprocess.CompletedProcess(arguments, code, *map(content, (out, err)))


@contextmanager
def capture(fd: int) -> Iterator[TextIO]:
    """Let a descriptor, stdout's or stderr's, lead to a file, and what Python makes of it."""
    file = tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8", errors="surrogateescape")
    saved = os.dup(fd)
    os.dup2(file.fileno(), fd)
    try:
        with (redirect_stdout if fd == 1 else redirect_stderr)(file):
            yield file
    finally:
        os.dup2(saved, fd)
        os.close(saved)


def content(file: TextIO) -> str:
    """Return the content of a file, and close it."""
    with file:
        file.seek(0)
        return file.read()


def run_python(code: str) -> str:
    """Run code in an interpreter of its own, which must exit with 0; return its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def draw_noise_clip(
    seed: int, frames: int = 30, height: int = 48, width: int = 64
) -> NDArray[np.uint8]:
    """Return coarse colour noise that drifts by one or two pixels per frame, uint8 (T, H, W, 3)."""
    rng = np.random.default_rng(seed)
    step = 1 + seed % 2
    rows, columns = (height + frames) // 4 + 1, (width + step * frames) // 4 + 1
    coarse = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    scene = coarse.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([scene[k : k + height, step * k : step * k + width] for k in range(frames)])


def images(store: Path) -> dict[tuple[str, str], bytes]:
    """Return every stored byte by video and modality."""
    opened = open_store(store)
    return {
        (video_id, modality): b"".join(opened.read_payloads(video_id, modality, 0, count))
        for video_id, video in opened.videos.items()
        for modality, count in video.images.items()
    }


def ledger(store: Path) -> list[dict[str, object]]:
    lines = [line for f in sorted((store / "ledger").iterdir()) for line in f.open()]
    return [json.loads(line) for line in lines]


def leftovers(store: Path) -> list[str]:
    """Return the files that only a running extraction may have."""
    names = [p.name for p in (store / "shards").iterdir() if not p.name.startswith("shard-")]
    running = store / "running"
    return names + ([p.name for p in running.iterdir()] if running.exists() else [])


def fill(disk: Path, spare: int = 0) -> Path:
    """Take all the room that is left but for some bytes; the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        free = shutil.disk_usage(disk).free - spare
        while free > 0:
            try:
                os.posix_fallocate(file.fileno(), 0, free)
                break
            except OSError:
                free -= 4096
    return ballast


def wait_for(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)
