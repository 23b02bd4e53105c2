"""Files of a store: regular ones only, copied inside the kernel, appended to by one at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flowpipe import atomic
from flowpipe.errors import DiskFullError
from flowpipe.store.disk import free_bytes
from flowpipe.store.layout import QUARANTINE_FOLDER, SHARDS_FOLDER
from flowpipe.words import byte_size, count_noun

_COPY_BYTES = 8 << 20


@contextlib.contextmanager
def lock_exclusively(fd: int) -> Iterator[None]:
    """Hold an exclusive lock of an open file; wait until other processes have released theirs.

    Parameters
    ----------
    fd : int
        Descriptor of the file.
    """
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


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; OSError if it is not a regular file.

    The file is opened without waiting, because opening a pipe would block.

    Parameters
    ----------
    path : Path
        File to open.

    Yields
    ------
    BinaryIO
        The open file.
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
    """Copy the beginning of one file into another, inside the kernel.

    Parameters
    ----------
    source, target : int
        Descriptors of the files.
    count : int
        Number of bytes.
    at : int
        Position in the target, bytes.
    """
    done = 0
    while done < count:
        try:
            moved = os.copy_file_range(source, target, count - done, done, at + done)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and atomic.is_disk_full(error):
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


def check_space(folder: Path, count: int) -> None:
    """Raise DiskFullError unless so many bytes fit on a disk.

    Parameters
    ----------
    folder : Path
        Folder on the disk.
    count : int
        Bytes to be written.
    """
    free = free_bytes(folder)
    if free < count:
        raise DiskFullError(
            f"{byte_size(count)} more needed at {folder} and only {byte_size(free)} free; "
            f"{atomic.FREE_SOME}"
        )


def sweep(store: str | Path) -> list[Path]:
    """Remove the drafts in the folders of a store whose writers have ended.

    Parameters
    ----------
    store : path
        Folder of the store.

    Returns
    -------
    list of Path
        Removed drafts, see `flowpipe.atomic.sweep`.
    """
    folders = (Path(store), *(Path(store) / name for name in (SHARDS_FOLDER, QUARANTINE_FOLDER)))
    return [path for folder in folders for path in atomic.sweep(folder)]
