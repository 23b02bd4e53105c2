"""Progress of one shard -> a heartbeat file, which names the video on which a worker died."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from flowpipe import strict
from flowpipe.atomic import draft_of, sweep, translate_full_disk
from flowpipe.errors import BackendError, FormatError
from flowpipe.owner import unique_name
from flowpipe.types import Outcome, Span

_FOLDER = re.compile(r"(?P<owner>.*?)(~[^~]*)?")
STOP = "stop"
"""Name of the file in a run's folder that tells its workers to publish finished videos and end."""


@dataclass(frozen=True)
class WorkerHeartbeat:
    """File in which the worker of one shard records its progress.

    The worker writes it at every window. The client reads it to show progress, and to find the
    video on which a worker died. ``trace`` beside it receives the stacks of a worker that stalls
    or crashes.
    """

    path: Path

    @property
    def trace(self) -> Path:
        """File that receives the stacks of a worker that stalls or crashes."""
        return self.path.with_suffix(".trace")

    @property
    def notes(self) -> Path:
        """File that lists the outcomes of shards which the worker publishes."""
        return self.path.with_suffix(".notes")

    @property
    def is_stop_requested(self) -> bool:
        """True if the client has asked its workers to publish finished videos and end."""
        return (self.path.parent / STOP).exists()

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Append the outcomes of a shard to `notes` before the shard is published.

        A worker that dies afterwards cannot return its outcomes; the client reads them here.

        Parameters
        ----------
        outcomes : sequence of Outcome
            Outcomes of the shard.
        """
        line = json.dumps([asdict(outcome) for outcome in outcomes]) + "\n"
        with self.writable(), self.notes.open("a", encoding="utf-8") as file:
            file.write(line)

    def list_published(self, shards: Path) -> list[Outcome]:
        """Read the noted outcomes whose shards are published, and noted failures.

        Parameters
        ----------
        shards : Path
            Folder of the shards.

        Returns
        -------
        list of Outcome
            The outcomes.
        """
        try:
            lines = self.notes.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                outcomes = [Outcome(**v) for v in strict.parse_json(line, "a note", kind=list)]
            except (FormatError, ValueError, TypeError):
                continue  # cut off by the death of its writer, which published nothing then
            if all((shards / f"{o.shard}.h5").exists() for o in outcomes if o.shard):
                found += outcomes
        return found

    def write(self, span: Span | None, frames: int, position: int) -> None:
        """Record which span is being processed.

        Parameters
        ----------
        span : Span or None
            None between videos, while a shard is opened or published.
        frames : int
            Frames finished so far in this job.
        position : int
            Index of the span in the job's shard plan; -1 without a span.

        Raises
        ------
        DiskFullError
        BackendError
            If the folder is gone, for example after the end of the run.
        """
        values = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "video_id": span.record.video_id if span else "",
            "part": span.part if span else 0,
            "position": position,
            "frames": frames,
            "time": time.time(),
        }
        with self.writable(), draft_of(self.path, durable=False) as draft:
            draft.write_text(json.dumps(values), encoding="utf-8")

    @contextmanager
    def writable(self) -> Iterator[None]:
        """Translate errors of the block, which writes beside the heartbeat.

        Raises
        ------
        DiskFullError
        BackendError
            If the folder is gone.
        """
        try:
            with translate_full_disk(self.path):
                yield
        except FileNotFoundError as error:
            raise BackendError(
                f"{socket.gethostname()} finds no {self.path.parent}: the run has ended, or this "
                "machine does not see the store's folder"
            ) from error

    def read(self) -> dict[str, object] | None:
        """Return the values that `write` recorded; None if there are none."""
        try:
            values: dict[str, object] = strict.read_json(self.path)
        except (OSError, FormatError):
            return None
        return values

    def last_traceback(self, most_lines: int = 60) -> str:
        """Read the reason and stacks that a dying worker wrote.

        Parameters
        ----------
        most_lines : int
            Most lines to return, the last ones.

        Returns
        -------
        str
            Text; empty if it wrote none.
        """
        try:
            text = self.trace.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[:most_lines])

    def remove(self) -> None:
        """Remove the heartbeat and its trace; `notes` stay for the client."""
        self.path.unlink(missing_ok=True)
        self.trace.unlink(missing_ok=True)


@contextmanager
def heartbeat_folder(store: Path) -> Iterator[Path]:
    """Make a folder for the heartbeats of one run; remove it when the block ends.

    Runs share a store, so each has a folder of its own, ``STORE/running/OWNER~RANDOM``. Folders of
    killed runs are removed, see `flowpipe.atomic.sweep`.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Yields
    ------
    Path
        The folder.
    """
    running = store / "running"
    with suppress(OSError):
        sweep(running, names=_FOLDER)
    own = running / unique_name()
    try:
        with translate_full_disk(own):
            _make(own)
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # another run still has its folder there
            running.rmdir()


def _make(folder: Path) -> None:
    for tries_left in reversed(range(100)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return
        except (FileNotFoundError, FileExistsError):
            # Another run has just made the empty parent, or ended and removed it.
            if not tries_left:
                raise
