"""Access to a local cluster: its listening ports, and connections without a certificate."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from checkout import ROOT, python_path
from distributed import LocalCluster
from gpu_pool import die

from flowpipe.run.cluster.pool import Pool, WorkerLostError, local_pool

NOBODY = 65534
SCRIPT = ROOT / "tests" / "support" / "stranger.py"


def load_ports() -> Any:
    spec = importlib.util.spec_from_file_location("ports", ROOT / "benchmarks" / "ports.py")
    assert spec and spec.loader
    module = sys.modules["ports"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ports = load_ports()


@pytest.fixture(scope="module", params=[(2, 0), (2, 1)], ids=["cores", "gpus"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    workers, gpus = request.param
    with local_pool(workers, gpus) as pool:
        pool.submit(abs, -1)
        assert pool.next_finished(60)
        yield pool


def test_every_port_is_local_and_refuses_clients_without_a_certificate(pool: Pool) -> None:
    found = set(ports.list_listening(os.getpid()))
    assert len(found) == 5  # the scheduler, and a nanny and a worker twice
    assert [port for port in found if not port.is_local] == []
    assert {ports.try_tls(port) for port in found} == {ports.CLOSED}


def try_addresses(addresses: list[str], uid: int) -> dict[str, dict[str, str]]:
    """Results of a user's attempts to run code at each address."""
    done = subprocess.run(
        [sys.executable, SCRIPT, str(uid), *addresses], capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": python_path(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("uid", [os.getuid(), NOBODY], ids=["same_user", "nobody"])
def test_other_users_cannot_run_code(pool: Pool, uid: int) -> None:
    if uid != os.getuid() and os.getuid() != 0:
        pytest.skip("needs root to be another user")
    found = set(ports.list_listening(os.getpid()))
    addresses = [f"{port.address}:{port.port}" for port in found]
    tried = try_addresses(addresses, uid)
    assert len(tried) == 5
    for said in tried.values():
        assert set(said) == {"tcp", "tls without a certificate", "tls with another certificate"}
        assert [way for way, what in said.items() if what.startswith("ran as")] == []


def test_another_user_can_run_code_with_the_defaults_of_dask() -> None:
    """This shows that the test above can fail."""
    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=":0") as open:
        address = open.scheduler_address.removeprefix("tcp://")
        tried = try_addresses([address], os.getuid())[address]
        assert tried["tcp"] == f"ran as {os.getuid()} in {os.getpid()}"
        others = [port for port in ports.list_listening(os.getpid()) if not port.is_local]
        assert others and {ports.try_tls(port) for port in others} == {ports.NO_TLS}


def test_a_replaced_worker_requires_a_certificate_too() -> None:
    before = set(ports.list_listening(os.getpid()))
    with local_pool(1) as pool:
        pool.submit(die, 0)
        _, _, error = pool.next_finished(60) or (None, None, None)
        assert isinstance(error, WorkerLostError)
        pool.submit(abs, -1)
        assert pool.next_finished(60)
        found = set(ports.list_listening(os.getpid())) - before
        assert len(found) == 3
        assert {(port.is_local, ports.try_tls(port)) for port in found} == {(True, ports.CLOSED)}
