"""`flowpipe extract` and `train` -> ports that they listen on: address, and whether TLS.

    python benchmarks/ports.py

It extracts the demo set with two workers, trains on it with two processes for an epoch, and looks
at the sockets of each process tree until its end. The program tries a TLS connection
without a certificate to each port, which a port of Dask should refuse. The ports of training carry
sums of gradients between its processes; no code can be run through them.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil  # comes with distributed

NO_TLS, OPEN, CLOSED = "no TLS", "TLS, anybody may speak", "TLS, refuses strangers"
GONE = "closed before it could be tried"


@dataclass(frozen=True, order=True)
class Listening:
    """A TCP port that a process listens on."""

    address: str
    port: int
    process: str = field(compare=False)
    """Command line of the process; one that it forked has the port too."""

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach the port."""
        return ipaddress.ip_address(self.address).is_loopback


def list_listening(pid: int) -> Iterator[Listening]:
    """Yield the TCP ports that a process and its descendants listen on now."""
    try:
        top = psutil.Process(pid)
        processes = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            command = " ".join(process.cmdline())
            for one in process.net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN:
                    yield Listening(one.laddr.ip, one.laddr.port, command)
        except psutil.NoSuchProcess:
            continue


def try_tls(port: Listening) -> str:
    """Connect to a port by TLS without a certificate; return one of the constants above."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((port.address, port.port), 5) as plain,
            context.wrap_socket(plain) as secure,
        ):
            try:
                secure.settimeout(2)
                secure.recv(1)  # of TLS 1.3 a refusal comes after the handshake
            except TimeoutError:
                return OPEN
            except ConnectionResetError:
                return CLOSED
            except ssl.SSLError as error:
                return CLOSED if "CERTIFICATE_REQUIRED" in str(error) else OPEN
            return OPEN
    except ConnectionRefusedError:
        return GONE
    except (ssl.SSLError, OSError):  # answers something else, or hangs up
        return NO_TLS


def watch_ports(*command: str | Path) -> dict[Listening, str]:
    """Run a flowpipe command and try each port that listens meanwhile; exit where it fails."""
    run = subprocess.Popen([sys.executable, "-m", "flowpipe", *command])
    seen: dict[Listening, str] = {}
    while run.poll() is None:
        for port in list_listening(run.pid):
            if port not in seen:
                seen[port] = try_tls(port)
        time.sleep(0.1)
    if run.returncode:
        sys.exit(run.returncode)
    return seen


def report(what: str, seen: dict[Listening, str]) -> None:
    print(f"{what}\n{'address':<20}{'to strangers':<28}process")
    for port, how in sorted(seen.items()):
        print(f"{f'{port.address}:{port.port}':<20}{how:<28}{port.process[:100]}")
    others = [port for port in seen if not port.is_local]
    print(f"{len(seen)} ports, {len(others)} of them reachable from other machines\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, store, run = (Path(folder, name) for name in ("demo", "store", "run"))
        report("extract", watch_ports(
            "extract", "--dataset", "demo", "--root", root, "--out", store, "--workers", "2",
            "--quiet", "--modalities", "rgb",
        ))  # fmt: skip
        if find_spec("torch") is None:
            print("train: not tried, torch is not installed")
            return
        report("train", watch_ports(
            "train", store, "--modality", "rgb", "-o", run, "--device", "cpu", "--devices", "2",
            "--set", "streams.rgb.init=random", "--set", "streams.rgb.schedule.end=1",
            "--set", "streams.rgb.schedule.lr_steps=[]",
        ))  # fmt: skip


if __name__ == "__main__":
    main()
