"""`--devices N`: processes of this machine train together, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from command import wait_for

pytest.importorskip("torch", reason="needs torch")

from tiny_training import command, environment  # noqa: E402

from flowpipe.tsn.run_folder import LAST  # noqa: E402

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(store: Path, tmp_path: Path) -> Iterator[Start]:
    """Begin a training of two processes; what still lives afterwards is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(store, tmp_path, "run", "--device", "cpu", "--devices", "2", *more),
            env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            for pid in [*children(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
        process.wait()


def children(pid: int) -> list[int]:
    """Processes that one has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def wait_for_training(process: subprocess.Popen[str], folder: Path) -> list[int]:
    """Wait until epochs go by; the processes that do it, the first one first."""
    wait_for(lambda: all((folder / "run" / name).exists() for name in ("log.csv", LAST)))
    two = sorted(children(process.pid))
    assert len(two) == 2
    return two


def list_addresses(process: subprocess.Popen[str]) -> set[str]:
    """Addresses on which a process and all below it take connections."""
    parent = psutil.Process(process.pid)
    return {
        one.laddr.ip
        for each in [parent, *parent.children(recursive=True)]
        for one in each.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }


def test_an_error_of_all_processes_is_printed_in_four_lines_at_most(start: Start) -> None:
    process = start("--split", "9")
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "split 'train9' is unknown" in stderr
    assert len(stderr.splitlines()) <= 4, stderr  # each of them may say it


def test_a_killed_process_ends_the_others_and_is_named(start: Start, tmp_path: Path) -> None:
    process = start()
    first, second = wait_for_training(process, tmp_path)
    assert list_addresses(process) == {"127.0.0.1"}, "gloo listens, and nothing else does"
    assert "libtorch" in Path(f"/proc/{first}/maps").read_text()
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text(), "of no use to launch"
    os.kill(second, signal.SIGKILL)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 2, stderr
    assert "process 1 of 2 was ended by SIGKILL" in stderr
    assert "torch/distributed/run.py" not in stderr
    assert not Path(f"/proc/{first}").exists()


def test_an_interruption_ends_all_processes_and_the_run_resumes(
    start: Start, tmp_path: Path
) -> None:
    process = start()
    for number in (signal.SIGINT, signal.SIGTERM):
        two = wait_for_training(process, tmp_path)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=100)
        assert process.returncode == 130, stderr
        assert "torch/distributed/run.py" not in stderr
        assert not [pid for pid in two if Path(f"/proc/{pid}").exists()]
        assert ("resuming at step" in stderr) == (number == signal.SIGTERM)
        (tmp_path / "run" / "log.csv").unlink()  # of which there will be a new one
        process = start("--resume")
    two = wait_for_training(process, tmp_path)
    process.kill()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in two))
    assert "resuming at step" in process.communicate()[1]
