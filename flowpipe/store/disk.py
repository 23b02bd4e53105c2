"""Folder of a store -> free space and write rate of its disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

FIRST_BYTES = 4 << 20
MOST_BYTES = 64 << 20
"""Size of the last write, which is the one that is timed; as much is written before it."""
ENOUGH_S = 0.5
FREE_BYTES = 1 << 30
"""Free space below which no disk is measured."""


def free_bytes(path: Path) -> int:
    """Return the free space of a file system.

    Parameters
    ----------
    path : Path
        A path on it; it need not exist.

    Returns
    -------
    int
        Free bytes.
    """
    return shutil.disk_usage(_nearest_existing(path)).free


def write_rate(path: Path) -> float | None:
    """Measure the write rate of one writer on the disk that `path` is or will be on.

    Writes go to an unnamed file and double in size, each followed by fsync, until half a second has
    passed. A file system on many servers is faster with several writers.

    Parameters
    ----------
    path : Path
        A path on the disk; it need not exist.

    Returns
    -------
    float or None
        Bytes per second; None if the folder cannot be written to, or has less than 1 GiB free.
    """
    folder = _nearest_existing(path)
    if not folder.is_dir() or free_bytes(folder) < FREE_BYTES:
        return None
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            began, count = time.perf_counter(), FIRST_BYTES
            while True:
                noise = os.urandom(count)  # incompressible, like JPEG
                started = time.perf_counter()
                written = file.write(noise)
                os.fsync(file.fileno())
                ended = time.perf_counter()
                if ended - began >= ENOUGH_S or count == MOST_BYTES:
                    return written / (ended - started)
                count *= 2
    except OSError:
        return None


def _nearest_existing(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path
