"""Shards published, removed and relabelled -> append-only log of a store.

The manifest distinguishes a lost or swapped shard from one that was never written. There is one
file per machine under ``STORE/manifest``. Each line has its CRC-32 and number, so damaged and
missing lines are found. The operations commute, so the files need no common order.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flowpipe import atomic
from flowpipe.errors import FormatError, storage_reason
from flowpipe.store import files, layout
from flowpipe.types import VideoRecord

Key = tuple[str, int, int]
"""(video_id, part, parts)"""

_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Publication:
    """Publication of a shard."""

    shard: str
    """File name."""
    seal: str
    keys: tuple[Key, ...]
    """Keys of the shard's entries."""


@dataclass(kw_only=True)
class Manifest:
    """Contents of the manifest files of a store."""

    published: dict[str, list[Publication]] = field(default_factory=dict)
    """Publications that were not removed, by file name of the shard, oldest first."""
    records: dict[tuple[str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Records that replace those in shards, by (shard, seal) and video id."""
    relabels: Counter[str] = field(default_factory=Counter)
    """Number of times that records of each shard were replaced."""
    class_names: tuple[str, ...] | None = None
    """Class names that replace those of store.json; None for no change."""
    dataset: dict[str, Any] | None = None
    """Origin of the videos that replaces the one in store.json; None for no change."""
    read: dict[str, int] = field(default_factory=dict)
    """Bytes read of each manifest file."""
    faults: list[str] = field(default_factory=list)
    """Descriptions of damaged or missing lines."""

    def lost(self, there: Mapping[str, str]) -> dict[str, Publication]:
        """Find shards that were published and are gone, or have a seal that was never published.

        Parameters
        ----------
        there : mapping of str to str
            Seals of the shards of the store, by file name.

        Returns
        -------
        dict
            Latest publication of each lost shard, by file name.
        """
        return {
            name: publications[-1]
            for name, publications in self.published.items()
            if there.get(name) not in {p.seal for p in publications}
        }


def log_published(store: Path, shard: str, seal: str, keys: Iterable[Key]) -> None:
    """Log that a shard was published under its final name.

    Parameters
    ----------
    store : Path
        Folder of the store.
    shard : str
        File name of the shard.
    seal : str
        Seal of the shard.
    keys : iterable of (video_id, part, parts)
        Entries of the shard.

    Raises
    ------
    DiskFullError
        If the disk is full.
    OSError
        If the file cannot be written for another reason.
    """
    _append(store, [{"publish": shard, "seal": seal, "keys": [list(key) for key in keys]}])


def log_removed(store: Path, shard: str, seal: str) -> None:
    """Log that a shard was removed from the store on purpose.

    Parameters
    ----------
    store : Path
        Folder of the store.
    shard : str
        File name of the shard.
    seal : str
        Seal of the shard.
    """
    _append(store, [{"remove": shard, "seal": seal}])


def log_records(store: Path, records: Mapping[tuple[str, str], Sequence[VideoRecord]]) -> None:
    """Log new records of videos: labels, splits, segments and paths.

    Parameters
    ----------
    store : Path
        Folder of the store.
    records : mapping
        Records by (file name, seal) of the shard that holds the video or a part of it. They do not
        apply to a shard that is written anew later, because its seal differs.
    """
    _append(
        store,
        [
            {"relabel": shard, "seal": seal, "records": [asdict(record) for record in changed]}
            for (shard, seal), changed in records.items()
        ],
    )


def log_class_names(store: Path, names: Sequence[str]) -> None:
    """Log class names that replace those of store.json.

    Parameters
    ----------
    store : Path
        Folder of the store.
    names : sequence of str
        Names of the classes, by label.
    """
    _append(store, [{"class_names": list(names)}])


def log_dataset(store: Path, values: Mapping[str, Any]) -> None:
    """Log an origin of the videos that replaces the one in store.json.

    Parameters
    ----------
    store : Path
        Folder of the store.
    values : mapping
        JSON values that say where the videos come from.
    """
    _append(store, [{"dataset": dict(values)}])


def manifest_files(store: Path) -> dict[str, int]:
    """List the files of the manifest.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    dict of str to int
        Size of each file, bytes, by name.
    """
    try:
        with os.scandir(store / layout.MANIFEST_FOLDER) as entries:
            return {
                entry.name: entry.stat().st_size
                for entry in sorted(entries, key=lambda entry: entry.name)
                if entry.name.endswith(_SUFFIX) and entry.is_file()
            }
    except FileNotFoundError:
        return {}


def read_manifest(store: Path, *, keys: bool = True) -> Manifest:
    """Read the manifest of a store; damage is listed in ``faults``.

    Parameters
    ----------
    store : Path
        Folder of the store.
    keys : bool
        Keep the keys of each shard's entries: 200 MB for a million videos.

    Returns
    -------
    Manifest
        Everything that the manifest logs.

    Raises
    ------
    FormatError
        If a file cannot be read at all; with the reason ``io`` if the storage failed.
    """
    manifest = Manifest()
    lines: list[tuple[int, str, dict[str, Any]]] = []
    for name in manifest_files(store):
        path = store / layout.MANIFEST_FOLDER / name
        try:
            with files.open_regular(path) as file:
                content = file.read()
        except FileNotFoundError:
            continue  # a repair has put another in its place
        except OSError as error:
            # Without this file, labels and lost shards are unknown.
            raise FormatError(
                f"{path} cannot be read: {error.strerror}", reason=storage_reason(error)
            ) from error
        # A last line without a line feed is being written, or its writer died.
        complete = content.rfind(b"\n") + 1
        manifest.read[name] = complete
        if complete < len(content) and not atomic.is_locked(path):
            manifest.faults.append(
                f"{name} ends in half a line: its writer died or the disk lost it"
            )
        number: int | None = 0
        for at, line in enumerate(content[:complete].splitlines(), 1):
            values = _parse_line(line)
            if values is None:
                if line:
                    manifest.faults.append(f"{name}: line {at} does not have its CRC")
                number = None
                continue
            if number is not None and values["n"] != number:
                manifest.faults.append(f"{name}: lines {number} to {values['n'] - 1} are missing")
            number = values["n"] + 1
            if not keys:
                values.pop("keys", None)
            lines.append((values["utc_ns"], name, values))
    removed: list[dict[str, Any]] = []
    for _, _, values in sorted(lines, key=lambda line: line[:2]):
        try:
            _take(manifest, values, removed)
        except (KeyError, TypeError, ValueError) as error:
            manifest.faults.append(f"a line of the manifest lacks or mistypes {error}")
    for values in removed:
        _remove(manifest.published, str(values["remove"]), str(values["seal"]))
    return manifest


def rewrite_manifest(store: Path, published: Iterable[Publication]) -> None:
    """Replace a damaged manifest by these publications and the records that can be read.

    Parameters
    ----------
    store : Path
        Folder of the store.
    published : iterable of Publication
        Shards that exist.
    """
    old = read_manifest(store)
    draft: list[dict[str, Any]] = [
        {"publish": p.shard, "seal": p.seal, "keys": [list(key) for key in p.keys]}
        for p in published
    ]
    draft += [
        {"relabel": shard, "seal": seal, "records": list(records.values())}
        for (shard, seal), records in old.records.items()
    ]
    if old.class_names is not None:
        draft.append({"class_names": list(old.class_names)})
    if old.dataset is not None:
        draft.append({"dataset": old.dataset})
    for name in manifest_files(store):
        (store / layout.MANIFEST_FOLDER / name).unlink(missing_ok=True)
    _append(store, draft)


def _take(manifest: Manifest, values: dict[str, Any], removed: list[dict[str, Any]]) -> None:
    if "publish" in values:
        keys = tuple((str(a), int(b), int(c)) for a, b, c in values.get("keys", ()))
        one = Publication(str(values["publish"]), str(values["seal"]), keys)
        manifest.published.setdefault(one.shard, []).append(one)
    elif "remove" in values:
        removed.append(values)
    elif "relabel" in values:
        manifest.relabels[str(values["relabel"])] += 1
        held = manifest.records.setdefault((str(values["relabel"]), str(values["seal"])), {})
        held.update(
            {VideoRecord.from_json(record).video_id: dict(record) for record in values["records"]}
        )
    elif "class_names" in values:
        manifest.class_names = tuple(map(str, values["class_names"]))
    elif "dataset" in values:
        manifest.dataset = dict(values["dataset"])


def _remove(published: dict[str, list[Publication]], shard: str, seal: str) -> None:
    """Remove one publication; the same shard may have been published again with its seal."""
    for one in published.get(shard, ()):
        if one.seal == seal:
            published[shard].remove(one)
            break
    if not published.get(shard, True):
        del published[shard]


def _append(store: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Append lines to this machine's file; they are durable when this returns."""
    if not lines:
        return
    folder = store / layout.MANIFEST_FOLDER
    path = folder / f"{_machine()}{_SUFFIX}"
    with atomic.translate_full_disk(path, "manifest"):
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            with files.lock_exclusively(fd):  # a file system without locks: the lines are one write
                size = os.fstat(fd).st_size
                number, torn = _next_number(fd, size)
                stamp = time.time_ns()
                text = [b"\n" if torn else b""]
                for k, values in enumerate(lines):
                    content = layout.to_json({"n": number + k, "utc_ns": stamp, **values}).encode()
                    text.append(b"%08x %s\n" % (zlib.crc32(content), content))
                try:
                    atomic.write_all(fd, b"".join(text))
                    os.fsync(fd)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(fd, size)  # leave no incomplete line
                    raise
        finally:
            os.close(fd)
        atomic.sync_folder(folder)


def _next_number(fd: int, size: int) -> tuple[int, bool]:
    """Return the number of the next line, and whether the file ends in an incomplete line."""
    if not size:
        return 0, False
    torn = os.pread(fd, 1, size - 1) != b"\n"
    step = 1 << 16
    while True:
        start = max(0, size - step)
        tail = os.pread(fd, size - start, start).split(b"\n")
        for line in reversed(tail if start == 0 else tail[1:]):
            values = _parse_line(line)
            if values is not None:
                return values["n"] + 1, torn
        if start == 0:
            return 0, torn
        step *= 8


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """Parse a line; None if it is damaged."""
    crc, _, content = line.partition(b" ")
    try:
        if len(crc) != 8 or int(crc, 16) != zlib.crc32(content):
            return None
        values = json.loads(content)
        return (
            values if isinstance(values["n"], int) and isinstance(values["utc_ns"], int) else None
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _machine() -> str:
    """Return a name that is unique to the running kernel: appends from one kernel never mix."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = f"{os.uname().nodename}"
    return "".join(c if c.isalnum() else "-" for c in boot)[:36]
