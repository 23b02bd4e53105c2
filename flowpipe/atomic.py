"""Content -> a file that is written atomically: complete or not at all.

A file is written as a draft, a hidden file beside its final name, ``.NAME.OWNER~RANDOM.tmp``, made
durable and then renamed. OWNER names the process that writes it, see `flowpipe.owner`, so that
`sweep` can remove the drafts of processes that were killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from flowpipe.errors import DiskFullError, UsageError, errno_of
from flowpipe.owner import STALE_S, owner_is_gone, unique_name

FREE_SOME = (
    "free some space or raise the quota, then run the same command again: finished work is kept"
)
"""Advice for a full disk."""
SILENT_S = 3600.0
"""Age from which a draft of `atomic_file` whose writer cannot be seen from here is left behind, s.

Such a draft is written in one go, so that its writer, if it lives, never pauses for as long.
"""
# Older versions end a draft in .part; a spool of a shard ends in -MODALITY.
_DRAFT = re.compile(r"\.(.*\.)?(?P<owner>[^.]+)~[0-9a-f]{8}\.(tmp(-\w+)?|part)", re.DOTALL)
_NAME_BYTES = 100
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], what: str = "file") -> Iterator[Path]:
    """Yield the draft of a file; it becomes the file when the block ends without an error.

    Drafts that killed processes left in the folder are removed first.

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
    with contextlib.suppress(OSError):  # writing says what is wrong with the folder
        sweep(path.parent, SILENT_S)
    with translate_write_errors(path, what), draft_of(path) as draft:
        yield draft


def write_atomic(path: str | os.PathLike[str], content: bytes, what: str = "file") -> None:
    """Write a file atomically; errors are those of `atomic_file`.

    Parameters
    ----------
    path : path
        File to write.
    content : bytes
        Its content.
    what : str
        What the file is, for messages.
    """
    with atomic_file(path, what) as draft:
        draft.write_bytes(content)


@contextlib.contextmanager
def draft_of(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield the draft of a file as `atomic_file` does; an OSError stays one, nothing is swept.

    Parameters
    ----------
    path : Path
        Final name.
    durable : bool
        Flush the file and its name to disk.

    Yields
    ------
    Path
        The draft.
    """
    draft = draft_name(path)
    try:
        yield draft
        if durable:
            publish(draft, path)
        else:
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def draft_name(path: Path) -> Path:
    """Return a new name for the draft of a file, or of a folder, of this process.

    Parameters
    ----------
    path : Path
        Final name.

    Returns
    -------
    Path
        Hidden name in the same folder.
    """
    name = os.fsencode(path.name)[:_NAME_BYTES].decode(errors="ignore")  # names end at 255 bytes
    return path.with_name(f".{name}.{unique_name()}.tmp")


def publish(draft: Path, path: Path) -> None:
    """Make a written file durable, rename it to its final name, and make the name durable.

    Parameters
    ----------
    draft : Path
        The written file.
    path : Path
        Final name.
    """
    fd = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that renames in it are durable.

    Parameters
    ----------
    folder : Path
        The folder.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without folder sync
            raise
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes) -> None:
    """Write every byte at the file's position.

    Parameters
    ----------
    fd : int
        Descriptor of the file.
    content : bytes
        Bytes to write.
    """
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def sweep(
    folder: Path,
    stale_s: float = STALE_S,
    *,
    names: re.Pattern[str] = _DRAFT,
    own_folders: bool = False,
) -> list[Path]:
    """Remove the temporary files and folders in a folder whose processes have ended.

    A file or folder is removed if its process is gone, see `flowpipe.owner.owner_is_gone`, and
    nobody holds its lock.

    Parameters
    ----------
    folder : Path
        Nothing happens where it is missing.
    stale_s : float
        Time since the last write from which a file counts as left behind if its process cannot be
        seen from here, such as one on another machine, s. The last write to a folder is the last
        to it or to a file in it.
    names : Pattern
        Names of the temporary files, with a group ``owner``; default: those of drafts.
    own_folders : bool
        True to remove folders of this user alone, where others can put files and links.

    Returns
    -------
    list of Path
        The files and folders that were removed.
    """
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (named := names.fullmatch(path.name)):
            continue
        with contextlib.suppress(OSError):  # removed meanwhile, or another user's
            found = path.lstat()
            is_folder = stat.S_ISDIR(found.st_mode)
            if own_folders and not (is_folder and found.st_uid == os.getuid()):
                continue
            inside = [one.lstat().st_mtime for one in path.iterdir()] if is_folder else []
            age_s = time.time() - max([found.st_mtime, *inside])
            if not owner_is_gone(named["owner"], age_s, stale_s):
                continue
            if is_folder:
                shutil.rmtree(path)
            elif stat.S_ISREG(found.st_mode) and is_locked(path):
                continue
            else:
                path.unlink()
            removed.append(path)
    return removed


def create_exclusive(path: Path) -> int:
    """Open a new file for reading and writing, and lock it to show that its writer lives.

    Parameters
    ----------
    path : Path
        File to create.

    Returns
    -------
    int
        Its descriptor.
    """
    return _try_lock(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


@contextlib.contextmanager
def open_locked(path: Path) -> Iterator[int]:
    """Open an existing file for reading and writing, and lock it as `create_exclusive` does.

    Parameters
    ----------
    path : Path
        Existing file.

    Yields
    ------
    int
        Its descriptor.
    """
    fd = _try_lock(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    try:
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> int:
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def is_locked(path: Path) -> bool:
    """Return whether a living writer holds the file, also one in another container of this host.

    Parameters
    ----------
    path : Path
        Existing file.

    Returns
    -------
    bool
        True while its writer lives.
    """
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


def is_disk_full(error: OSError | RuntimeError) -> bool:
    """Return whether an error means that a disk or quota is full, or a file too large.

    Parameters
    ----------
    error : OSError or RuntimeError
        Error of a write.

    Returns
    -------
    bool
        True if there was no space.
    """
    return errno_of(error) in _FULL


@contextlib.contextmanager
def translate_full_disk(path: Path, what: str = "file") -> Iterator[None]:
    """Turn every error that means a full disk into DiskFullError.

    Parameters
    ----------
    path : Path
        File that is written.
    what : str
        What the file is, for messages.

    Raises
    ------
    DiskFullError
        If the block ran out of space.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # HDF5 raises either, and fails once more when it then closes the file.
        told = [e for e in (error, error.__context__) if isinstance(e, OSError | RuntimeError)]
        code = next((errno_of(e) for e in told if is_disk_full(e)), None)
        if code is None:
            raise
        raise DiskFullError(
            f"no space left for {what} {path}: {os.strerror(code)}; {FREE_SOME}"
        ) from error


@contextlib.contextmanager
def translate_write_errors(path: Path, what: str) -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into DiskFullError or UsageError.

    Parameters
    ----------
    path : Path
        File that is written.
    what : str
        What the file is, for messages.

    Raises
    ------
    DiskFullError
        If the block ran out of space.
    UsageError
        If the file cannot be written for another reason.
    """
    try:
        with translate_full_disk(path, what):
            yield
    except OSError as error:
        reason = os.strerror(number) if (number := errno_of(error)) else str(error)
        raise UsageError(f"{what} {path} cannot be written: {reason}") from error
