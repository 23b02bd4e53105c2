"""Process -> a name that its temporary files carry, by which others tell whether it still runs."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

STALE_S = 24 * 3600.0
"""Age from which a file of a process that cannot be seen from here counts as left behind, s."""
_OWNER = re.compile(
    r"(?P<machine>[A-Za-z0-9_-]+~[0-9a-f]+~\d+)~(?P<pid>\d+)~(?P<start>\d+)", re.ASCII
)


def owner_name() -> str:
    """Return the name of this process, unique among all machines that share a file system.

    Returns
    -------
    str
        ``HOST~BOOT~NAMESPACE~PID~START``, made of ``[A-Za-z0-9_~-]``. The boot id and the number of
        the PID namespace tell containers, and machines of one host name, apart. The start time, in
        clock ticks since boot, tells a process from an older one of the same id. What the system
        does not say is 0.
    """
    pid = os.getpid()
    return f"{_machine()}~{pid}~{_start_and_state(pid)[0]}"


def owner_is_gone(name: str, age_s: float, stale_s: float = STALE_S) -> bool:
    """Return whether the process that `owner_name` named has ended.

    Parameters
    ----------
    name : str
        From `owner_name`; anything else counts as a process that cannot be seen from here.
    age_s : float
        Time since the process last gave a sign, such as a write to the file, s. It decides alone
        where the process cannot be seen: another machine, boot or PID namespace.
    stale_s : float
        Age from which such a process counts as gone, s.
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
    """Return whether this PID namespace has a process of the id."""
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
    """Start time of a process in clock ticks and its state; (0, "") where /proc does not say."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return 0, ""  # /proc shows another PID namespace
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, ""
    fields = stat.rpartition(") ")[2].split()
    return int(fields[19]), fields[0]
