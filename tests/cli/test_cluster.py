"""`flowpipe cluster`, and `--scheduler` with TLS: real schedulers, workers, keys and strangers."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest
from checkout import ROOT, python_path
from command import FAST, Run, images

from flowpipe.run.cluster.settings import SETTINGS

Start = Callable[..., None]
NOBODY = 65534


@pytest.fixture
def keys(tmp_path: Path, flowpipe: Run) -> Path:
    """A folder of settings and keys, as the command makes it."""
    folder = tmp_path / "keys"
    done = flowpipe("cluster", "config", folder)
    assert done.returncode == 0, done.stderr
    return folder


def environment(keys: Path | None) -> dict[str, str]:
    return {**os.environ, **({"DASK_CONFIG": str(keys / "dask.yaml")} if keys else {})}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Dask scheduler that writes a file, and a worker that reads it."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(file: Path, keys: Path | None) -> None:
        http = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
        options = {
            "scheduler": ("--host", "127.0.0.1", "--port", "0"),
            "worker": ("--nthreads", "1", "--local-directory", str(tmp_path)),
        }
        for role, own in options.items():
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", role, "--scheduler-file", str(file), *http,
                     *own],
                    stderr=subprocess.DEVNULL, env=environment(keys), start_new_session=True,
                )
            )  # fmt: skip

    yield run
    for process in processes:
        # A worker that is asked to end looks for its scheduler for eight seconds.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def address_in(file: Path) -> str:
    for _ in range(600):
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError):
            time.sleep(0.1)
    raise TimeoutError("the scheduler did not come up in a minute")


def test_settings_of_a_cluster_are_those_of_a_run_and_require_tls(keys: Path) -> None:
    found = dask.config.collect([str(keys / "dask.yaml")], env={})
    assert {key: dask.config.get(key, None, config=found) for key in SETTINGS} == SETTINGS
    assert dask.config.get("distributed.comm.require-encryption", config=found) is True
    assert dask.config.get("distributed.comm.default-scheme", config=found) == "tls"


def test_keys_are_private_whatever_the_umask_says(tmp_path: Path, flowpipe: Run) -> None:
    before = os.umask(0)
    try:
        done = flowpipe("cluster", "config", tmp_path / "keys")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "keys").iterdir()}
    assert modes == {"dask.yaml": 0o600, "certificate.pem": 0o600, "key.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


@pytest.mark.parametrize("folder", ["keys", "nowhere/keys", "keys/key.pem"])
def test_a_folder_that_cannot_be_made_is_reported(
    folder: str, keys: Path, tmp_path: Path, flowpipe: Run
) -> None:
    before = (keys / "key.pem").read_bytes()
    done = flowpipe("cluster", "config", tmp_path / folder)
    assert done.returncode == 2
    assert folder in done.stderr and "Traceback" not in done.stderr
    assert (keys / "key.pem").read_bytes() == before


def test_a_run_waits_for_the_file_of_a_tls_scheduler(
    keys: Path, clips: Path, tmp_path: Path, start: Start, flowpipe: Run
) -> None:
    file = keys / "scheduler.json"
    start(file, keys)  # the run starts beside it: the file does not exist yet
    done = flowpipe(
        "extract", "--videos", clips, "--out", tmp_path / "store", *FAST,
        "--scheduler", file, env=environment(keys),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len({video for video, _ in images(tmp_path / "store")}) == 8
    address = address_in(file)
    assert address.startswith("tls://")

    # Without keys nobody gets in, and a user of flowpipe is told what is missing.
    done = flowpipe(
        "extract", "--videos", clips, "--out", tmp_path / "other", *FAST, "--scheduler", address
    )
    assert done.returncode == 2
    assert "DASK_CONFIG" in done.stderr and "flowpipe cluster config" in done.stderr
    assert "Traceback" not in done.stderr

    stranger = tmp_path / "stranger"
    assert flowpipe("cluster", "config", stranger).returncode == 0
    done = flowpipe(
        "extract", "--videos", clips, "--out", tmp_path / "other", *FAST,
        "--scheduler", address, env=environment(stranger),
    )  # fmt: skip
    assert done.returncode == 2
    assert f"no Dask scheduler answers at {address}" in done.stderr
    assert "Traceback" not in done.stderr

    place = address.removeprefix("tls://")
    tried = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "stranger.py", str(os.getuid()), place],
        capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": python_path(ROOT)},
    )  # fmt: skip
    assert tried.returncode == 0, tried.stderr
    said = json.loads(tried.stdout)[place]
    assert [what for what in said.values() if what.startswith("ran as")] == []


def test_a_scheduler_without_tls_is_refused_where_tls_is_required(
    keys: Path, clips: Path, tmp_path: Path, start: Start, flowpipe: Run
) -> None:
    start(tmp_path / "scheduler.json", None)
    address = address_in(tmp_path / "scheduler.json")
    assert address.startswith("tcp://")
    for scheduler in (address, tmp_path / "scheduler.json"):
        done = flowpipe(
            "extract", "--videos", clips, "--out", tmp_path / "store", *FAST,
            "--scheduler", scheduler, env=environment(keys),
        )  # fmt: skip
        assert done.returncode == 2
        assert f"the scheduler at {address} does not speak TLS" in done.stderr
        assert "Traceback" not in done.stderr


def test_missing_and_damaged_keys_are_reported(
    keys: Path, clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    for damage in (lambda p: p.write_text("no key"), lambda p: p.unlink()):
        damage(keys / "key.pem")
        done = flowpipe(
            "extract", "--videos", clips, "--out", tmp_path / "store", *FAST,
            "--scheduler", "tls://127.0.0.1:1", env=environment(keys),
        )  # fmt: skip
        assert done.returncode == 2
        assert "TLS keys" in done.stderr and str(keys / "dask.yaml") in done.stderr
        assert "Traceback" not in done.stderr
