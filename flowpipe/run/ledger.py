"""Outcomes -> files beside the shards: a ledger line per span, a file per quarantined video.

People read the ledger; no decision depends on it. The shards say which videos are done, and the
quarantine says which are not retried.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowpipe import params, strict
from flowpipe.atomic import draft_of, translate_full_disk, write_all
from flowpipe.errors import REASONS, RETRIED, FormatError, RecipeError, RemoteError
from flowpipe.remote import file_facts
from flowpipe.store.layout import QUARANTINE_FOLDER
from flowpipe.types import Outcome


class Ledger:
    """Appends outcomes to ``STORE/ledger/<time>-<host>-<random>.jsonl``, one new file per run.

    Parameters
    ----------
    store : Path
        Folder of the store.
    """

    def __init__(self, store: Path) -> None:
        folder = store / "ledger"
        with translate_full_disk(folder, "ledger"):
            folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self.path = folder / f"{stamp}-{socket.gethostname()}-{uuid.uuid4().hex[:8]}.jsonl"
        with translate_full_disk(self.path, "ledger"):
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def write(self, outcome: Outcome) -> None:
        """Append one line immediately; a crash or a full disk loses this line at most.

        Parameters
        ----------
        outcome : Outcome
            Outcome of a span.
        """
        line = outcome.to_json() + "\n"
        with translate_full_disk(self.path, "ledger"):
            write_all(self._fd, line.encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def outcomes_of(store: Path) -> Iterator[dict[str, Any]]:
    """Read a store's ledger, oldest file first.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Yields
    ------
    dict
        Values of one line.
    """
    for path in sorted((store / "ledger").glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                try:
                    values = strict.parse_json(line, str(path))
                except FormatError:
                    continue  # a line cut short by a crash
                if isinstance(values, dict):
                    yield values


def policy_shown(store: Path) -> str:
    """Return the strictest policy for damage that keeps all damaged videos of a store.

    The policy is ``conceal`` if the ledger has a damaged video that was kept to its end, else
    ``partial`` if it has one that was kept up to the damage, else ``skip``.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    str
        ``conceal``, ``partial`` or ``skip``.
    """
    kept = {v.get("status") for v in outcomes_of(store) if v.get("reason")}
    return "conceal" if "done" in kept else "partial" if "partial" in kept else "skip"


@dataclass(frozen=True)
class Quarantined:
    """Failed span, with the size and modification time of its file at the failure."""

    outcome: Outcome
    source_bytes: int
    source_mtime_ns: int
    on_error: str
    """Policy for damage under which the span failed, see `WorkerOptions.policy`."""


class Quarantine:
    """One JSON file per failed span under ``STORE/quarantine``; names are digests, never ids.

    Parameters
    ----------
    store : Path
        Folder of the store.
    """

    def __init__(self, store: Path) -> None:
        self._folder = store / QUARANTINE_FOLDER

    def add(self, outcome: Outcome, on_error: str) -> None:
        """Record a failure in a file that is written atomically.

        Parameters
        ----------
        outcome : Outcome
            Outcome of the failed span.
        on_error : str
            Policy for damage under which it failed.
        """
        size, mtime_ns = _stat(outcome.path)
        values = asdict(Quarantined(outcome, size, mtime_ns, on_error))
        path = self._path(outcome.video_id, outcome.part, outcome.parts)
        with translate_full_disk(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft_of(path, durable=False) as draft:
                draft.write_text(json.dumps(values, indent=1), encoding="utf-8")

    def remove(self, video_id: str, part: int, parts: int) -> None:
        """Remove the entries of a span and of its whole video, after a success.

        Parameters
        ----------
        video_id : str
            Id of the video.
        part, parts : int
            Number of the part, and number of parts.
        """
        self._path(video_id, part, parts).unlink(missing_ok=True)
        self._path(video_id, 0, 1).unlink(missing_ok=True)

    def read(self) -> list[Quarantined]:
        """Return all entries, sorted by video id and part."""
        if not self._folder.is_dir():
            return []
        entries = []
        for path in self._folder.glob("*.json"):
            try:
                entry = params.build(Quarantined, strict.read_json(path), where=path.name)
            except (OSError, FormatError, RecipeError):
                continue  # removed meanwhile, or cut short by a power failure: retry the video
            if entry.outcome.reason in REASONS:
                entries.append(entry)
        return sorted(entries, key=lambda e: (e.outcome.video_id, e.outcome.part))

    def video_ids(self) -> set[str]:
        """Return ids of the videos that have an entry."""
        return {entry.outcome.video_id for entry in self.read()}

    def list_held_back(self, retry: str, on_error: str) -> set[tuple[str, int, int]]:
        """Return keys of the spans that are not retried: they failed and nothing has changed.

        Parameters
        ----------
        retry : str
            Reason code of the failures to retry, ``all``, or empty for none.
        on_error : str
            Policy of this run; videos that failed under another policy are retried.

        Returns
        -------
        set of (str, int, int)
            (video_id, part, parts) of each span.
        """
        held = set()
        for entry in self.read():
            outcome = entry.outcome
            unchanged = _stat(outcome.path) == (entry.source_bytes, entry.source_mtime_ns)
            again = retry in ("all", outcome.reason) or outcome.reason in RETRIED
            if unchanged and not again and entry.on_error == on_error:
                held.add((outcome.video_id, outcome.part, outcome.parts))
        return held

    def _path(self, video_id: str, part: int, parts: int) -> Path:
        key = f"{video_id}\n{part}\n{parts}".encode("utf-8", "surrogateescape")
        return self._folder / f"{hashlib.sha256(key).hexdigest()[:24]}.json"


def _stat(path: str) -> tuple[int, int]:
    try:
        facts = file_facts(path)
    except (OSError, RemoteError):
        return -1, -1
    return facts.bytes, facts.mtime_ns
