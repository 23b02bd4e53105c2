"""Progress of one shard -> a small file that outlives its worker: whom to blame when one dies."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flowpipe.types import Span


@dataclass(frozen=True)
class Breadcrumb:
    """What the worker of one shard is doing right now.

    The worker writes it at every window; the client reads it for progress and after a death.
    ``trace`` beside it receives the stack of a worker that stalls or crashes.
    """

    path: Path

    @property
    def trace(self) -> Path:
        return self.path.with_suffix(".trace")

    def write(self, span: Span | None, frames: int, position: int) -> None:
        """Note the span being worked on, the frames done so far in this shard, and the span's
        position in the shard."""
        values = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "video_id": span.record.video_id if span else "",
            "part": span.part if span else 0,
            "position": position,
            "frames": frames,
            "time": time.time(),
        }
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(values), encoding="utf-8")
        draft.replace(self.path)

    def read(self) -> dict[str, object] | None:
        try:
            values: dict[str, object] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return values

    def last_words(self, most_lines: int = 60) -> str:
        """What a dying worker wrote: why, then the stack of each thread; empty if it left none."""
        try:
            text = self.trace.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[:most_lines])

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.trace.unlink(missing_ok=True)


@contextmanager
def crumb_folder(store: Path, run: str) -> Iterator[Path]:
    """A folder for the breadcrumbs of one run, gone when the block ends.

    Runs share a store, so each has its own; those of runs on this machine that were killed are
    swept away.

    Parameters
    ----------
    store : Path
    run : str
        ``<time>-<host>-<pid>``, as the ledger is named.
    """
    running = store / "running"
    for folder in running.glob("*"):
        _, _, owner = folder.name.partition("-")
        host, _, pid = owner.rpartition("-")
        if host == socket.gethostname() and not _alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    own = running / run
    own.mkdir(parents=True)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # another run still has its folder there
            running.rmdir()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
