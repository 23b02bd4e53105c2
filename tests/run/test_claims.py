"""Runs on one store: overlapping runs are refused, and killed runs never block."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from claimants import claim_at_once, hold

from flowpipe.errors import UnwritableError, UsageError
from flowpipe.run.claims import CLAIM_FILE, claim_store

SPAWN = multiprocessing.get_context("spawn")
ELSEWHERE = "node7~0badc0de~1~4242~17~00c0ffee"
"""Folder name of a run on another machine."""


@contextmanager
def another_run(store: Path, part: tuple[int, int] = (1, 1)) -> Iterator[BaseProcess]:
    held = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(store, part, held))
    process.start()
    try:
        assert held.wait(60)
        yield process
    finally:
        process.kill()
        process.join()


def run_elsewhere(store: Path, *, silent_s: float = 0.0, started: int = 1, text: str = "") -> Path:
    """Forge the folder of a run on another machine that gave its last sign `silent_s` ago."""
    folder = store / "running" / ELSEWHERE
    folder.mkdir(parents=True)
    path = folder / CLAIM_FILE
    values = {"host": "node7", "pid": 4242, "started": started, "part": [1, 1]}
    path.write_text(text or json.dumps(values))
    os.utime(path, (time.time() - silent_s,) * 2)
    return path


def ignore_line(line: str) -> None:
    raise AssertionError(f"waited: {line}")


def test_a_second_run_is_refused_while_the_first_lives_and_leaves_nothing(tmp_path: Path) -> None:
    with another_run(tmp_path) as process:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UsageError) as refused, claim_store(tmp_path, say=ignore_line):
            pass
        assert f"another run is extracting into {tmp_path} (host " in str(refused.value)
        assert f"process {process.pid}, since " in str(refused.value)
        assert "--part" in str(refused.value)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_killed_run_never_blocks(tmp_path: Path) -> None:
    with another_run(tmp_path) as process:
        process.kill()
        process.join()
        assert list(tmp_path.glob(f"running/*/{CLAIM_FILE}")), "kill -9 leaves the claim behind"
        with claim_store(tmp_path, say=ignore_line) as own:
            assert own.is_dir()
    assert not (tmp_path / "running").exists()


@pytest.mark.parametrize(
    "theirs, ours, disjoint",
    [
        ((1, 2), (2, 2), True), ((1, 2), (1, 2), False), ((1, 2), (2, 3), False),
        ((1, 1), (2, 2), False), ((1, 2), (1, 1), False), ((3, 4), (1, 4), True),
    ],
)  # fmt: skip
def test_only_different_shares_of_one_division_are_disjoint(
    theirs: tuple[int, int], ours: tuple[int, int], disjoint: bool, tmp_path: Path
) -> None:
    with another_run(tmp_path, theirs):
        if disjoint:
            with claim_store(tmp_path, ours, say=ignore_line) as own:
                assert len(list(own.parent.iterdir())) == 2
        else:
            with pytest.raises(UsageError), claim_store(tmp_path, ours):
                pass


def test_exactly_one_of_the_runs_that_begin_together_continues(tmp_path: Path) -> None:
    runs, rounds = 4, 25
    barrier, answers = SPAWN.Barrier(runs), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=claim_at_once, args=(tmp_path, rounds, barrier, answers))
        for _ in range(runs)
    ]
    for process in processes:
        process.start()
    seen = [answers.get(timeout=120) for _ in range(runs * rounds)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * runs
    granted = Counter(number for number, went_on in seen if went_on)
    assert granted == dict.fromkeys(range(rounds), 1)
    assert list(tmp_path.glob("*/*")) == [], "claims end with their runs"


def test_a_silent_run_on_another_machine_counts_as_ended(tmp_path: Path) -> None:
    run_elsewhere(tmp_path, silent_s=500)
    with claim_store(tmp_path, say=ignore_line) as own:
        assert own.is_dir()


def test_a_dead_run_on_another_machine_is_waited_for_once(tmp_path: Path) -> None:
    run_elsewhere(tmp_path)
    said: list[str] = []
    with claim_store(tmp_path, say=said.append, silence_s=2):
        pass
    (line,) = said
    assert "waiting up to" in line and "host node7, process 4242" in line


def do_while_waiting(do: Callable[[], None]) -> Callable[[str], None]:
    """Call a function on another thread, soon after the run has printed that it waits."""
    return lambda line: threading.Timer(0.2, do).start()


def test_a_run_is_refused_while_another_machine_runs_one(tmp_path: Path) -> None:
    path = run_elsewhere(tmp_path)
    beat = do_while_waiting(lambda: os.utime(path))
    with (
        pytest.raises(UsageError, match="host node7, process 4242"),
        claim_store(tmp_path, say=beat),
    ):
        pass


def test_a_run_on_another_machine_that_ends_meanwhile_does_not_block(tmp_path: Path) -> None:
    path = run_elsewhere(tmp_path)

    def end() -> None:
        path.unlink()
        path.parent.rmdir()

    with claim_store(tmp_path, say=do_while_waiting(end)) as own:
        assert own.is_dir()


def test_the_clocks_of_machines_need_not_agree(tmp_path: Path) -> None:
    """A start time in the future belongs to an existing run, which has precedence."""
    path = run_elsewhere(tmp_path, started=time.time_ns() + 3600 * 10**9)
    beat = do_while_waiting(lambda: os.utime(path))
    with pytest.raises(UsageError), claim_store(tmp_path, say=beat):
        pass


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"host": 1}',
        "\x00" * 100,
        "[" * 10_000,
        json.dumps({"host": "h", "pid": 1, "started": 10**30, "part": [1, 1]}),
    ],
)
def test_a_claim_that_cannot_be_read_claims_everything(text: str, tmp_path: Path) -> None:
    path = run_elsewhere(tmp_path, text=text)
    beat = do_while_waiting(lambda: os.utime(path))
    with pytest.raises(UsageError, match="cannot be read"), claim_store(tmp_path, (2, 3), say=beat):
        pass


def test_the_heartbeat_of_a_run_refreshes_its_claim(tmp_path: Path) -> None:
    with claim_store(tmp_path, beat_s=0.05) as own:
        path = own / CLAIM_FILE
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 1:
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.05)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UnwritableError, match="cannot be written"),
        claim_store(tmp_path / "file" / "s"),
    ):
        pass
