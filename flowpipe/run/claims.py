"""One store -> one run at a time, or several that take disjoint parts of the videos."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from flowpipe import strict
from flowpipe.atomic import draft_of, translate_full_disk
from flowpipe.errors import FormatError, UnwritableError, UsageError
from flowpipe.logs import get_logger
from flowpipe.owner import owner_is_gone
from flowpipe.run.worker.heartbeat import heartbeat_folder

log = get_logger(__name__)

CLAIM_FILE = "run.json"
HEARTBEAT_S = 10.0
SILENCE_S = 120.0
"""Time without a heartbeat after which a run on another machine counts as ended, seconds."""
UNCLAIMED_S = 10.0
"""Longest time from a run's folder to its claim, seconds; older versions write no claim."""


LATEST = 1 << 62
"""Upper bound of plausible start times, nanoseconds since 1970: the year 2116."""


@dataclass(frozen=True)
class Claim:
    """Record by which a run reserves its part of a store: ``STORE/running/NAME/run.json``."""

    host: str
    pid: int
    started: int
    """Start time, nanoseconds since 1970; later than those of all earlier claims."""
    part: tuple[int, int]
    """(i, n): the run extracts the i-th of n shares of the videos, counted from 1."""

    def overlaps(self, other: Claim) -> bool:
        """Return whether both runs may extract the same video.

        Parameters
        ----------
        other : Claim
            Claim of another run.

        Returns
        -------
        bool
            True if they may.
        """
        return self.part[1] != other.part[1] or self.part[0] == other.part[0]

    def __str__(self) -> str:
        if not self.started:
            return f"host {self.host}, with a {CLAIM_FILE} that cannot be read"
        since = datetime.fromtimestamp(self.started / 1e9).isoformat(" ", "seconds")
        return f"host {self.host}, process {self.pid}, since {since}"


@contextmanager
def claim_store(
    store: Path,
    part: tuple[int, int] = (1, 1),
    *,
    say: Callable[[str], None] = log.warning,
    silence_s: float = SILENCE_S,
    beat_s: float = HEARTBEAT_S,
) -> Iterator[Path]:
    """Reserve a store, or a share of its videos, for this run while the block runs.

    The run makes its folder, picks a start time above those of the claims it sees, and only then
    compares its claim with the others (Lamport's bakery algorithm). If overlapping runs begin at
    the same time, exactly one of them continues. This needs no locks of the file system.

    Parameters
    ----------
    store : Path
        Folder of the store; made if missing, and removed at the end if it is still empty.
    part : (int, int)
        (i, n) of ``--part``.
    say : callable
        Called once with a message if the run has to wait to learn whether a run on another machine
        is alive.
    silence_s : float
        Time without a heartbeat after which a run on another machine counts as ended, seconds.
    beat_s : float
        Interval of this run's heartbeat, seconds.

    Yields
    ------
    Path
        Folder of this run, removed when the block ends.

    Raises
    ------
    UsageError
        If an overlapping run that began earlier is still alive.
    UnwritableError
        If the store's folder cannot be written to.
    DiskFullError
    """
    missing = [folder for folder in (store, *store.parents) if not folder.exists()]
    with ExitStack() as stack:
        stack.callback(_remove_empty, missing)
        try:
            own = stack.enter_context(heartbeat_folder(store))
            mine = _enter(own, part)
        except OSError as error:
            raise UnwritableError(f"{store} cannot be written to: {error}") from error
        stack.enter_context(_refresh(own / CLAIM_FILE, beat_s))
        for folder in sorted(own.parent.iterdir()):
            if folder != own:
                _yield_to_older(store, own, mine, folder, say=say, silence_s=silence_s)
        yield own


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # no longer empty
            folder.rmdir()


def _enter(own: Path, part: tuple[int, int]) -> Claim:
    """Write the claim of this run, with a start time above those of all present claims."""
    others = [_read(folder) for folder in own.parent.iterdir() if folder != own]
    started = max([time.time_ns(), *(1 + other.started for other in others if other)])
    mine = Claim(socket.gethostname(), os.getpid(), started, part)
    path = own / CLAIM_FILE
    with translate_full_disk(path), draft_of(path, durable=False) as draft:
        draft.write_text(json.dumps(asdict(mine)), encoding="utf-8")
    return mine


def _read(folder: Path) -> Claim | None:
    """Return the claim in the folder of a run; None if there is none yet.

    An unreadable claim counts as a claim to all videos, earlier than every other.
    """
    path = folder / CLAIM_FILE
    try:
        values = strict.parse_json(path.read_text(encoding="utf-8"), str(path))
        index, count = map(int, values["part"])
        started = int(values["started"])
        if not 0 < started < LATEST:
            return _unreadable(folder)
        return Claim(str(values["host"]), int(values["pid"]), started, (index, count))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, FormatError):
        return _unreadable(folder)


def _unreadable(folder: Path) -> Claim:
    return Claim(folder.name.partition("~")[0], 0, 0, (1, 1))


def _yield_to_older(
    store: Path,
    own: Path,
    mine: Claim,
    folder: Path,
    *,
    say: Callable[[str], None],
    silence_s: float,
) -> None:
    """Wait until another run is no obstacle; raise UsageError if it precedes this one and lives."""
    name = folder.name.rpartition("~")[0]
    begun, first_sign, told = time.monotonic(), 0.0, False
    while folder.is_dir() and not owner_is_gone(name, 0.0, math.inf):
        theirs = _read(folder)
        if theirs is None:
            if time.monotonic() - begun < UNCLAIMED_S:
                time.sleep(0.02)
                continue
            theirs = _unreadable(folder)
        if not mine.overlaps(theirs) or (mine.started, own.name) < (theirs.started, folder.name):
            return
        sign, age_s = _last_heartbeat(own, folder)
        first_sign = first_sign or sign
        seen_from_here = not owner_is_gone(name, math.inf)
        if seen_from_here or sign != first_sign:
            raise UsageError(
                f"another run is extracting into {store} ({theirs}); wait for it, stop it, or give "
                "both runs a --part"
            )
        if age_s > silence_s:
            return
        if not told:
            told = True
            say(
                f"waiting up to {silence_s - age_s:.0f} s to see whether an earlier run on "
                f"{store} is alive ({theirs})"
            )
        time.sleep(min(1.0, silence_s / 10))


def _last_heartbeat(own: Path, folder: Path) -> tuple[float, float]:
    """Return the time of the last heartbeat in the folder of a run, and its age, both in seconds.

    Both come from the file system, so the clocks of the machines need not agree.
    """
    os.utime(own / CLAIM_FILE)
    now = (own / CLAIM_FILE).stat().st_mtime
    last = 0.0
    for path in (folder / CLAIM_FILE, folder):
        with suppress(OSError):
            last = path.stat().st_mtime
            break
    return last, now - last


@contextmanager
def _refresh(path: Path, every_s: float) -> Iterator[None]:
    """Update the modification time of a file at an interval while the block runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            with suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
