"""A folder of small real videos, and the command run as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Run, command, draw_noise_clip, in_process
from videofile import encode_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sound videos in two class folders."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(8):
        path = folder / f"class {seed % 2}" / f"clip-{seed}.mp4"
        path.parent.mkdir(exist_ok=True)
        encode_video(path, draw_noise_clip(seed))
    return folder


@pytest.fixture
def flowpipe() -> Run:
    """Run `flowpipe ...` to its end: in this process, or in one of its own that gets an `env`.

    Tests of signals, exit codes and crashes start processes of their own.
    """

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        if "env" in options:
            return subprocess.run(
                command(*arguments), capture_output=True, text=True, timeout=280, **options
            )
        return in_process(*arguments, **options)

    return run


@pytest.fixture
def running() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `flowpipe ...` in a session of its own; what still lives afterwards is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments),
            **options,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell that runs the tests in the background makes its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()
