"""Bytes -> files that are complete or absent: temporary names, sweeping, publishing, full disks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flowpipe.atomic import is_disk_full, sync_folder
from flowpipe.errors import DiskFullError, errno_of
from flowpipe.owner import owner_is_gone, owner_name
from flowpipe.store.disk import free_bytes
from flowpipe.store.layout import QUARANTINE_FOLDER, SHARDS_FOLDER
from flowpipe.words import byte_size, count_noun

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<owner>[^.]+)~[0-9a-f]{8}\.tmp(-\w+)?")
_COPY_BYTES = 8 << 20


def temporary_name(final: Path) -> Path:
    """Return a hidden name beside `final` that names its writing process, see `flowpipe.owner`."""
    return final.with_name(f".{final.name}.{owner_name()}~{uuid.uuid4().hex[:8]}.tmp")


def write_at_once(final: Path, text: str) -> None:
    """Write a file that others see complete or not at all; a power cut may still lose it."""
    temporary = temporary_name(final)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def create_exclusive(path: Path) -> int:
    """Open a new file for reading and writing, and lock it to show that its writer lives."""
    return _locking(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Open an existing file for reading and writing, and lock it as `create_exclusive` does."""
    fd = _locking(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def alone(fd: int) -> Iterator[None]:
    """Hold an exclusive lock of an open file; wait until other processes have released theirs."""
    locked = True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        locked = False
    try:
        yield
    finally:
        if locked:
            fcntl.flock(fd, fcntl.LOCK_UN)


def _locking(fd: int) -> int:
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def write_all(fd: int, content: bytes) -> None:
    """Write every byte at the file's position."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; OSError if it is not a regular file.

    The file is opened without waiting, because opening a pipe would block.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        file = os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise
    with file:
        yield file


def copy_bytes(source: int, target: int, count: int, at: int) -> None:
    """Copy the first `count` bytes of one file to offset `at` of another, inside the kernel."""
    done = 0
    while done < count:
        try:
            moved = os.copy_file_range(source, target, count - done, done, at + done)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and is_disk_full(error):
                raise
            break
        if not moved:
            break
        done += moved
    while done < count:
        block = os.pread(source, min(_COPY_BYTES, count - done), done)
        if not block:
            raise OSError(errno.EIO, f"a spool file ends {count_noun(count - done, 'byte')} early")
        view = memoryview(block)
        while view:
            moved = os.pwrite(target, view, at + done)
            view = view[moved:]
            done += moved


def publish(temporary: Path, final: Path) -> None:
    """Make a written file durable, rename it to its final name, and make the name durable."""
    fd = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(final)
    sync_folder(final.parent)


def need_space(folder: Path, count: int) -> None:
    """Raise DiskFullError unless `count` more bytes fit on the disk of `folder`."""
    free = free_bytes(folder)
    if free < count:
        raise DiskFullError(
            f"{byte_size(count)} more needed at {folder} and only {byte_size(free)} free; "
            "free some space, then run the same command again: finished shards stay"
        )


@contextlib.contextmanager
def full_disk_in_words(path: Path) -> Iterator[None]:
    """Turn every error that means a full disk into DiskFullError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # HDF5 raises either, and fails once more when it then closes the file.
        told = [e for e in (error, error.__context__) if isinstance(e, OSError | RuntimeError)]
        code = next((errno_of(e) for e in told if is_disk_full(e)), None)
        if code is None:
            raise
        raise DiskFullError(
            f"no space left while writing {path}: {os.strerror(code)}; free some space or raise "
            "the quota, then run the same command again: finished shards stay"
        ) from error


def sweep(store: str | Path) -> list[Path]:
    """Remove temporary files whose writers have ended.

    A file is removed if its writer is gone, see `flowpipe.owner.owner_is_gone`, and no process
    holds its lock. If the writer cannot be seen from here, as in another container, the time since
    the last write to the file decides.

    Returns
    -------
    list of Path
        Files removed.
    """
    removed = []
    store = Path(store)
    for folder in (store, store / SHARDS_FOLDER, store / QUARANTINE_FOLDER):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            named = _TEMPORARY.fullmatch(path.name)
            if named is None:
                continue
            with contextlib.suppress(FileNotFoundError):
                age_s = time.time() - path.stat().st_mtime
                if owner_is_gone(named["owner"], age_s) and not is_locked(path):
                    path.unlink()
                    removed.append(path)
    return removed


def is_locked(path: Path) -> bool:
    """Return whether a living writer holds the file, also one in another container of this host."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
