"""Process -> a name for its temporary files that tells others whether the process still runs."""

from __future__ import annotations

import os
import re
import socket
import uuid
from pathlib import Path

STALE_S = 24 * 3600.0
"""Age above which a file counts as abandoned if its process cannot be seen from here, seconds."""
_OWNER = re.compile(
    r"(?P<machine>[A-Za-z0-9_-]+~[0-9a-f]+~\d+)~(?P<pid>\d+)~(?P<start>\d+)", re.ASCII
)


def owner_name() -> str:
    """Return the name of this process, unique among all machines that share a file system.

    Returns
    -------
    str
        ``HOST~BOOT~NAMESPACE~PID~START``, made of ``[A-Za-z0-9_~-]``. The boot id and the PID
        namespace distinguish containers, and machines with one host name. The start time, in clock
        ticks since boot, distinguishes processes with the same id. Unknown values are 0.
    """
    pid = os.getpid()
    return f"{_machine()}~{pid}~{_start_and_state(pid)[0]}"


def unique_name() -> str:
    """Return the name of this process and a random number, ``OWNER~RANDOM``, for a new file."""
    return f"{owner_name()}~{uuid.uuid4().hex[:8]}"


def owner_is_gone(name: str, age_s: float, stale_s: float = STALE_S) -> bool:
    """Return whether the process that `owner_name` named has ended.

    Parameters
    ----------
    name : str
        Result of `owner_name`; any other text counts as a process that cannot be seen from here.
    age_s : float
        Time since the last sign of life, such as a write to the file, seconds. It decides if the
        process cannot be seen: on another machine, boot or PID namespace.
    stale_s : float
        Age above which such a process counts as gone, seconds.

    Returns
    -------
    bool
        True if it has ended.
    """
    named = _OWNER.fullmatch(name)
    if named is None or named["machine"] != _machine():
        return age_s > stale_s
    pid = int(named["pid"])
    if not is_alive(pid):
        return True
    start, state = _start_and_state(pid)
    another = 0 not in (start, int(named["start"])) and start != int(named["start"])
    return another or state in ("Z", "X")


def is_alive(pid: int) -> bool:
    """Return whether a process runs.

    Parameters
    ----------
    pid : int
        Id of the process in this PID namespace.

    Returns
    -------
    bool
        True if it runs.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _machine() -> str:
    host = re.sub(r"[^A-Za-z0-9-]", "_", socket.gethostname()) or "host"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").split("-")[0]
        namespace = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        boot, namespace = "0", "0"
    return f"{host}~{boot}~{namespace or 0}"


def _start_and_state(pid: int) -> tuple[int, str]:
    """Return the start time of a process, clock ticks, and its state; (0, "") if unknown."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return 0, ""  # /proc shows another PID namespace
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, ""
    fields = stat.rpartition(") ")[2].split()
    return int(fields[19]), fields[0]
