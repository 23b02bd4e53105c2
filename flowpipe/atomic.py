"""Content -> a file that is written atomically: complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from flowpipe.errors import DiskFullError, UsageError, errno_of
from flowpipe.owner import owner_is_gone, owner_name

_PART = re.compile(r"\.(?P<owner>[^.]+)~[0-9a-f]{8}\.part")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: OSError | RuntimeError) -> bool:
    """Return whether an error means that a disk or quota is full, or a file too large."""
    return errno_of(error) in _FULL


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], what: str = "file") -> Iterator[Path]:
    """Yield a temporary path; rename it to `path`, durably, if the block succeeds.

    Parameters
    ----------
    path : path
        File to write; an existing one is replaced.
    what : str
        Kind of file, for error messages.

    Yields
    ------
    Path
        Temporary path in the same folder; removed if the block fails.

    Raises
    ------
    DiskFullError
        If the disk or quota is full.
    UsageError
        If the file cannot be written for another reason.
    """
    path = Path(path)
    half = path.with_name(f".{owner_name()}~{uuid.uuid4().hex[:8]}.part")
    _sweep(path.parent)
    with translate_write_errors(path, what):
        try:
            yield half
            with half.open("rb") as file:
                os.fsync(file.fileno())
            half.replace(path)
            sync_folder(path.parent)
        finally:
            half.unlink(missing_ok=True)


@contextlib.contextmanager
def translate_write_errors(path: Path, what: str) -> Iterator[None]:
    """Raise an OSError of the block, which writes `path`, as DiskFullError or UsageError."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(number) if (number := errno_of(error)) else str(error)
        if is_disk_full(error):
            raise DiskFullError(
                f"cannot write {what} {path}: {reason}; free some space or raise the quota, then "
                "run the same command again"
            ) from error
        raise UsageError(f"cannot write {what} {path}: {reason}") from error


def write_atomic(path: str | os.PathLike[str], content: bytes, what: str = "file") -> None:
    """Write a file atomically, see `atomic_file`."""
    with atomic_file(path, what) as half:
        half.write_bytes(content)


def _sweep(folder: Path) -> None:
    """Remove unfinished files of processes that have ended."""
    for path in folder.glob(".*.part"):
        if named := _PART.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if owner_is_gone(named["owner"], time.time() - path.lstat().st_mtime):
                    path.unlink()


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that renames in it are durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without folder sync
            raise
    finally:
        os.close(fd)
