"""Source files -> size, modification time, tag and SHA-256, and whether they have changed.

Size and modification time are compared first. A file in which they differ is hashed; if it has the
extracted bytes, ``sources.jsonl`` records that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import RemoteError, is_storage_failure
from flowpipe.remote import FileFacts, file_facts, is_url
from flowpipe.store.files import open_regular
from flowpipe.store.rows import digests

SOURCES_FILE = "sources.jsonl"
"""Name of the file that lists touched files with unchanged bytes, so that each is hashed once."""
COMPARED = ("source_bytes", "source_mtime_ns", "source_tag", "source_sha256")
"""Catalogue columns with which files are compared."""
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceFacts:
    """Size, modification time and tag of n files, as columns of shape (n,)."""

    bytes: NDArray[np.int64]
    """Size in bytes; -1 for a file that is gone or cannot be reached."""
    mtime_ns: NDArray[np.int64]
    tag: NDArray[np.uint64]

    def find_unchanged(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Return which files are unchanged since they were stored, judged without reading them.

        Parameters
        ----------
        columns : mapping of str to array
            Columns `COMPARED` of the stored videos, (n,) each.

        Returns
        -------
        bool (n,)
            True for the unchanged ones.
        """
        stored_bytes, stored_ns = columns["source_bytes"], columns["source_mtime_ns"]
        timed = (self.mtime_ns > 0) & (stored_ns > 0)
        tagged = (self.tag != 0) & (columns["source_tag"] != 0)
        same = (self.bytes == stored_bytes) & (~timed | (self.mtime_ns == stored_ns))
        # Imported, or stored by a version that recorded no sources: nothing to compare.
        same |= (stored_bytes < 0) | (columns["source_sha256"] == 0)
        same = np.where(tagged, self.tag == columns["source_tag"], same)
        unchanged: NDArray[np.bool_] = same & (self.bytes >= 0)
        return unchanged


def stat_all(paths: Sequence[str]) -> SourceFacts:
    """Return facts of many files without opening them.

    Parameters
    ----------
    paths : sequence of str
        Paths or URLs.

    Returns
    -------
    SourceFacts
        Facts of the files.
    """
    count = len(paths)
    sizes, times = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    tags: dict[int, str] = {}
    for k, path in enumerate(paths):
        facts = facts_if_there(path)
        if facts is not None:
            sizes[k], times[k] = facts.bytes, facts.mtime_ns
            if facts.tag:
                tags[k] = facts.tag
    tag = np.zeros(count, np.uint64)
    tag[list(tags)] = digests(tags.values())
    return SourceFacts(sizes, times, tag)


def facts_if_there(path: str, *, strictly: bool = False) -> FileFacts | None:
    """Return the facts of a file; None for an empty path or a file that cannot be reached.

    Parameters
    ----------
    path : str
        Path or URL.
    strictly : bool
        True to raise the OSError of a storage failure.

    Returns
    -------
    FileFacts or None
        The facts.
    """
    if not path:
        return None
    try:
        return file_facts(path)
    except (RemoteError, OSError, ValueError) as error:
        if strictly and isinstance(error, OSError) and is_storage_failure(error):
            raise
        return None


def sha256_of(path: str) -> str:
    """Compute the SHA-256 of a local file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    str
        Hexadecimal digest; empty if it is not regular or cannot be opened.

    Raises
    ------
    OSError
        If the storage failed, which says nothing about the file.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(Path(path)) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except (OSError, ValueError) as error:
        if is_storage_failure(error):
            raise
        return ""
    return digest.hexdigest()


def is_of(source: Mapping[str, Any], now: FileFacts) -> bool:
    """Return whether an extraction was made from a file with this tag, size and time.

    Parameters
    ----------
    source : mapping
        ``source`` in the meta of the stored video.
    now : FileFacts
        Facts of the file now.

    Returns
    -------
    bool
        True if it was.
    """
    same_tag = not now.tag or not source.get("tag") or now.tag == source["tag"]
    return same_tag and (source.get("bytes"), source.get("mtime_ns")) == (now.bytes, now.mtime_ns)


def has_stored_bytes(path: str, facts: FileFacts, source: Mapping[str, Any]) -> bool:
    """Return whether a file has the extracted bytes although its time or tag has changed.

    Parameters
    ----------
    path : str
        Path or URL.
    facts : FileFacts
        Facts of the file now.
    source : mapping
        ``source`` in the meta of the stored video.

    Returns
    -------
    bool
        True if the SHA-256 is the stored one.

    Raises
    ------
    OSError
        If the storage failed.
    """
    if is_url(path) or facts.bytes != source.get("bytes"):
        return False
    return sha256_of(path) == source.get("sha256")


def read_remembered(store: Path) -> dict[str, tuple[int, int, str]]:
    """Read the digests of hashed sources.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    dict of str to (int, int, str)
        Bytes, modification time, ns, and SHA-256 by video id.
    """
    found = {}
    try:
        with (store / SOURCES_FILE).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    one: dict[str, Any] = json.loads(line)
                    found[one["video_id"]] = one["bytes"], one["mtime_ns"], one["sha256"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # cut short by a crash: the file is hashed once more
    except OSError:
        pass
    return found


def write_remembered(store: Path, hashed: Mapping[str, tuple[int, int, str]]) -> None:
    """Append the digests of hashed sources to `SOURCES_FILE`.

    Parameters
    ----------
    store : Path
        Folder of the store.
    hashed : mapping of str to (int, int, str)
        Bytes, modification time, ns, and SHA-256 by video id.
    """
    if not hashed:
        return
    with (store / SOURCES_FILE).open("a", encoding="utf-8") as file:
        for video_id, (size, mtime_ns, sha256) in hashed.items():
            values = {
                "video_id": video_id, "bytes": size, "mtime_ns": mtime_ns, "sha256": sha256,
            }  # fmt: skip
            file.write(f"{json.dumps(values)}\n")
