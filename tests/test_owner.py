"""Names of temporary files tell whether their writer is alive, dead, or in another container."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowpipe import atomic
from flowpipe.owner import STALE_S, owner_is_gone, owner_name
from flowpipe.run.worker.heartbeat import heartbeat_folder
from flowpipe.store import sweep

NAME_IT = "from flowpipe.owner import owner_name; print(owner_name(), flush=True); input()"
IN_A_NAMESPACE = """
import os, sys
from pathlib import Path
from flowpipe.owner import owner_name
from flowpipe.run.worker.heartbeat import heartbeat_folder
from flowpipe.atomic import draft_name
store = Path(sys.argv[1])
while os.path.exists(f"/proc/{os.getpid()}"):  # an id that nobody has outside
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with heartbeat_folder(store):
    draft_name(store / "shards" / "shard-a.h5").touch()  # no lock, as where there are none
    print(owner_name(), flush=True)
    input()
"""


@contextmanager
def run_owner(*command: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process and the first line it prints; it ends with the block."""
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        yield process.stdout.readline().strip(), process
        process.stdin.close()


def test_a_living_process_is_not_gone_however_old_its_file():
    assert not owner_is_gone(owner_name(), 10 * STALE_S)
    with run_owner(sys.executable, "-c", NAME_IT) as (name, _):
        assert not owner_is_gone(name, 10 * STALE_S)


def test_a_dead_process_is_gone_at_once_also_before_it_was_waited_for():
    with run_owner(sys.executable, "-c", NAME_IT) as (name, process):
        process.kill()
        stat = Path(f"/proc/{process.pid}/stat")
        while ") Z" not in stat.read_text():
            time.sleep(0.01)
        assert owner_is_gone(name, 0)
        process.wait()
        assert owner_is_gone(name, 0)


def test_another_process_of_the_same_id_is_not_the_owner():
    machine, pid, start = owner_name().rsplit("~", 2)
    assert int(start) > 0
    assert owner_is_gone(f"{machine}~{pid}~{int(start) - 1}", 0)
    assert not owner_is_gone(f"{machine}~{pid}~0", 10 * STALE_S), "a start that is not known"


@pytest.mark.parametrize("change", ["host", "boot", "namespace", "older flowpipe", "foreign"])
def test_of_a_process_out_of_sight_the_age_decides(change):
    host, boot, namespace, _, start = owner_name().split("~")
    name = {
        "host": f"x{host}~{boot}~{namespace}~999999999~{start}",
        "boot": f"{host}~f{boot}~{namespace}~999999999~{start}",
        "namespace": f"{host}~{boot}~1{namespace}~999999999~{start}",
        "older flowpipe": f"{socket.gethostname()}~999999999",
        "foreign": "",
    }[change]
    assert not owner_is_gone(name, STALE_S - 1)
    assert owner_is_gone(name, STALE_S + 1)
    assert owner_is_gone(name, 61, stale_s=60)


def test_names_of_temporary_files_are_found_by_the_sweep(tmp_path):
    temporary = atomic.draft_name(tmp_path / "shard-a.h5")
    assert re.fullmatch(r"\.shard-a\.h5\.[A-Za-z0-9_~-]+\.tmp", temporary.name)
    with run_owner(sys.executable, "-c", NAME_IT) as (name, process):
        dead = temporary.with_name(temporary.name.replace(owner_name(), name))
        process.kill()
        process.wait()
    for path in (temporary, dead):
        path.touch()
    assert sweep(tmp_path) == [dead]


def test_a_living_writer_in_another_pid_namespace_is_left_alone(tmp_path):
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare, to make a PID namespace")
    (tmp_path / "shards").mkdir()
    inside = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", IN_A_NAMESPACE)
    with run_owner(*inside, tmp_path) as (name, _):
        if not name:
            pytest.skip("this machine lets nobody make a PID namespace")
        pid = name.split("~")[3]
        assert not Path(f"/proc/{pid}").exists(), "its id means nobody here"
        assert sweep(tmp_path) == []
        with heartbeat_folder(tmp_path):
            assert len(list((tmp_path / "running").iterdir())) == 2
        (temporary,) = (tmp_path / "shards").iterdir()
        os.utime(temporary, (1, 1))
        assert sweep(tmp_path) == [temporary], "without a lock the age decides"


def test_the_assembled_file_is_locked_while_it_is_checked(tmp_path):
    path = atomic.draft_name(tmp_path / "shard-a.h5")
    path.touch()
    stranger = path.with_name(path.name.replace(owner_name(), "elsewhere~0~0~1~1"))
    path.rename(stranger)
    os.utime(stranger, (1, 1))
    with atomic.open_locked(stranger):
        assert sweep(tmp_path) == []
    assert sweep(tmp_path) == [stranger]
