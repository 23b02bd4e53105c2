"""Worker processes that are killed while they start, or stop silently: real processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import dask
import pytest

from flowpipe.errors import BackendError
from flowpipe.run.cluster.pool import Pool, WorkerLostError, local_pool


def workers() -> set[int]:
    """Process ids of the worker processes below this one."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except (OSError, IndexError, ValueError):
            continue
    return found


@contextmanager
def kill_workers(is_next: Callable[[set[int]], bool]) -> Iterator[set[int]]:
    """Kill workers as soon as they appear, while `is_next` of those killed so far is true."""
    before, killed, over = workers(), set[int](), threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            for pid in workers() - before - killed:
                if is_next(killed):
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_worker_killed_while_it_starts_costs_nothing(gpus: int) -> None:
    before = workers()
    with kill_workers(lambda killed: not killed) as killed, local_pool(1, gpus) as pool:
        assert answer(pool) == (-1, 1, None)
        assert len(killed) == 1
    assert workers() == before


def test_workers_that_never_start_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowpipe.run.cluster.pool.STARTS", 2)
    before = workers()
    with (
        kill_workers(lambda killed: True) as killed,
        pytest.raises(BackendError, match=r"2 times in a row .*fewer --workers"),
        local_pool(1),
    ):
        raise AssertionError("it must not start")
    assert len(killed) == 2
    assert workers() == before


def test_a_worker_that_restarts_slowly_is_waited_for() -> None:
    """The user's settings of Dask do not matter: workers start slowly on a busy machine."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "500 ms"}),
        local_pool(1) as pool,
    ):
        first = pid_of_worker(pool)
        os.kill(first, signal.SIGKILL)
        while not (fresh := workers() - {first}):
            time.sleep(0.01)
        os.kill(max(fresh), signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(max(fresh), signal.SIGCONT)
        assert pid_of_worker(pool) == max(fresh)
        time.sleep(1)  # what is given up goes on until it has started
        assert pid_of_worker(pool) == max(fresh)


def test_a_worker_has_more_time_to_connect_than_dask_has() -> None:
    """On a busy machine a worker starts slowly; the limits of a user's Dask are for networks."""
    with dask.config.set({"distributed.comm.timeouts.connect": "1 ms"}), local_pool(1) as pool:
        assert answer(pool) == (-1, 1, None)


def test_a_run_whose_workers_cannot_be_started_again_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their folder has been replaced by a file."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    scratch_folder = "flowpipe.run.cluster.pool.scratch_folder"
    monkeypatch.setattr(scratch_folder, lambda kind: nullcontext(folder))
    with local_pool(1) as pool:
        pid = pid_of_worker(pool)
        folder.rename(tmp_path / "gone")
        folder.write_text("")
        os.kill(pid, signal.SIGKILL)
        pool.submit(abs, -1)
        with pytest.raises(BackendError, match="cannot be restarted: out of memory"):
            for _ in range(60):
                pool.next_finished(1)


def test_a_stopped_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog in the worker is stopped too."""
    monkeypatch.setattr("flowpipe.run.cluster.pool.FROZEN_S", 5)
    with local_pool(1, stall_s=1) as pool:
        pid = pid_of_worker(pool)
        os.kill(pid, signal.SIGSTOP)
        assert isinstance(answer(pool)[2], WorkerLostError)
        assert pid_of_worker(pool) != pid
        assert pid not in workers()


def pid_of_worker(pool: Pool) -> int:
    """Process id of the one worker; again where a busy machine has kept it from its heartbeat."""
    for _ in range(5):
        pool.submit(os.readlink, "/proc/self")
        finished = pool.next_finished(100)
        assert finished is not None, "nothing came back in time"
        if finished[2] is None:
            return int(finished[1])
        assert isinstance(finished[2], WorkerLostError)
    raise AssertionError("the worker was replaced again and again")


def answer(pool: Pool) -> tuple[object, object, BaseException | None]:
    pool.submit(abs, -1)
    finished = pool.next_finished(100)
    assert finished is not None, "nothing came back in time"
    return finished
