"""Dask settings and TLS keys -> a cluster of this process, or a folder for the user's own one."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path
from typing import Any

import dask
from distributed import Security

from flowpipe import params, strict
from flowpipe.errors import BackendError, FormatError, UsageError

SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # the client decides about deaths
    "distributed.scheduler.worker-saturation": 1.0,  # one task per worker, the rest queue
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-ttl": "30 minutes",  # the watchdog is faster
    # Dask drops a dead worker for good if it is not back by then. On a busy machine the restart
    # takes longer, and the nanny restarts the worker in any case.
    "distributed.deploy.lost-worker-timeout": "1000 days",
    "distributed.scheduler.http.routes": [],  # HTTP asks for no certificate, so it serves nothing
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,  # results are tiny: there is nothing to spill
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.admin.low-level-log-length": 1000,
    "distributed.admin.tick.interval": "500ms",  # it watches for stalls 50 times a second
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # glibc keeps the memory of a window for the next one, in at most two heaps. Returning it
        # each time, as with Dask's own setting, costs 7 ms a frame in page faults.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    },
}
"""Dask configuration of the scheduler, workers and client of every cluster."""

_PATIENCE_S = 60.0
"""Longest wait for a scheduler file, seconds."""
_MOST_FILE_BYTES = 1 << 20
"""Largest size of a scheduler file; Dask's have a few hundred bytes."""

_HEADER = """\
# Dask configuration of one cluster for flowpipe. Scheduler, workers and `flowpipe extract` read it:
#   export DASK_CONFIG=FOLDER/dask.yaml
# Whoever can read key.pem can run code on the cluster.
"""


def temporary_security() -> Security:
    """Return a new certificate and key, held in memory, for all roles of one cluster.

    Returns
    -------
    distributed.Security
        Certificate and key.

    Raises
    ------
    BackendError
        If cryptography is not installed.
    """
    try:
        security: Security = Security.temporary()
    except ImportError as error:
        raise BackendError(
            f"connections of the workers cannot be encrypted: {error}; pip install cryptography"
        ) from error
    return security


def write_settings(folder: Path) -> None:
    """Write ``dask.yaml``, ``certificate.pem`` and ``key.pem`` for one Dask cluster to a folder.

    Only this user can read the folder. Processes that read ``dask.yaml`` through ``DASK_CONFIG``
    communicate by TLS only and accept only each other.

    Parameters
    ----------
    folder : Path
        New folder on a file system that all nodes of the cluster share.

    Raises
    ------
    UsageError
        If the folder exists or cannot be made, or its file system keeps no permissions.
    BackendError
        If cryptography is not installed.
    """
    folder = folder.absolute()
    pem = temporary_security().get_tls_config_for_role("scheduler")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    try:
        folder.mkdir(0o700)
    except OSError as error:
        hint = "; name a new one" if folder.exists() else ""
        raise UsageError(f"folder {folder} cannot be made: {error.strerror}{hint}") from error
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        folder.rmdir()
        raise UsageError(
            f"{folder} would be open to other users (mode {mode:o} instead of 700): its file "
            "system keeps no permissions; name a folder on another one"
        )
    tls: dict[str, Any] = {"distributed.comm.tls.ca-file": str(certificate)}
    for role in ("scheduler", "worker", "client"):
        tls[f"distributed.comm.tls.{role}.cert"] = str(certificate)
        tls[f"distributed.comm.tls.{role}.key"] = str(key)
    encrypted = {
        "distributed.comm.require-encryption": True,
        "distributed.comm.default-scheme": "tls",
    }
    try:
        _write(certificate, pem["ca_file"])
        _write(key, pem["key"])
        settings = _nest(SETTINGS | encrypted | tls)
        _write(folder / "dask.yaml", _HEADER + params.dump(settings))
    except OSError as error:
        raise UsageError(f"folder {folder} cannot be written to: {error.strerror}") from error


def find_scheduler(scheduler: str, patience_s: float = _PATIENCE_S) -> tuple[str, Security]:
    """Return the address of a scheduler and the TLS keys that Dask's configuration names.

    Parameters
    ----------
    scheduler : str
        Address, or the path of a scheduler file, which may appear later.
    patience_s : float
        Longest wait for the file, seconds.

    Returns
    -------
    address : str
        Address.
    security : distributed.Security
        TLS keys.

    Raises
    ------
    UsageError
        If the file does not appear or holds no address, or if the configuration lacks the keys
        that the address needs or forbids the address.
    """
    is_address = "://" in scheduler or re.fullmatch(r"[^/]*:\d+", scheduler)
    address = scheduler if is_address else _address_in(Path(scheduler), patience_s)
    try:
        security = Security()
        context = security.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        raise UsageError(
            f"TLS keys of the Dask configuration cannot be read: {error}; see "
            "distributed.comm.tls.ca-file, .client.cert and .client.key in DASK_CONFIG="
            f"{os.environ.get('DASK_CONFIG', '')}"
        ) from error
    scheme = address.partition("://")[0] if "://" in address else _default_scheme()
    if scheme == "tls" and context is None:
        raise UsageError(
            f"the scheduler at {address} wants TLS keys, and the Dask configuration names none; "
            "set DASK_CONFIG to the dask.yaml that `flowpipe cluster config` wrote for it, "
            "or distributed.comm.tls.ca-file, .client.cert and .client.key"
        )
    if scheme == "tcp" and security.require_encryption:
        raise UsageError(
            f"the scheduler at {address} does not speak TLS, and the Dask configuration requires "
            "it; give a tls:// address, or start scheduler and workers with the same DASK_CONFIG"
        )
    return address, security


def _default_scheme() -> str:
    return str(dask.config.get("distributed.comm.default-scheme"))


def _address_in(path: Path, patience_s: float) -> str:
    """Wait for a complete scheduler file and return its address; Dask writes it in place."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            text = strict.read_text(path, error=UsageError, most_bytes=_MOST_FILE_BYTES)
            address = strict.parse_json(text, str(path))["address"]
        except FileNotFoundError:
            reason = "it does not exist"
        except UsageError as error:
            raise UsageError(f"--scheduler: {error}") from error
        except (FormatError, KeyError):
            reason = "it holds no JSON object with an address"
        else:
            if isinstance(address, str):
                return address
            reason = "its address is no text"
        if time.monotonic() > deadline:
            raise UsageError(
                f"--scheduler {path} names no scheduler: {reason} after {patience_s:g} s; give the "
                "file of `dask scheduler --scheduler-file`, or an address such as tcp://host:8786"
            )
        time.sleep(0.2)


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _nest(settings: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested dictionaries."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = value
    return nested
