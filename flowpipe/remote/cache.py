"""Remote file -> a local copy for as long as it is used; all copies together stay below a limit.

Processes of one machine share the cache: a lock file beside each copy marks it as used, and another
one guards the freeing of space. Locks end with their process, so a killed worker leaves none. Its
partial copy is removed when space is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import posixpath
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from flowpipe.errors import DiskFullError, RemoteError
from flowpipe.remote.url import FileFacts, download, file_facts, forget_listings, is_url
from flowpipe.words import byte_size, count_noun

T = TypeVar("T")

DEFAULT_BYTES = 20_000_000_000
"""Default limit of a cache."""
_BLOCK_BYTES = 8 << 20
PAUSES_S = (1.0, 2.0, 4.0)
_POLL_S = 0.2
_ROOM_LOCK = "room.lock"


@dataclass(frozen=True)
class Cache:
    """Folder of copies of remote files."""

    folder: Path
    limit_bytes: int
    """Largest total size of the copies."""

    @contextmanager
    def local(self, path: str, beat: Callable[[], None] = lambda: None) -> Iterator[str]:
        """Fetch a remote file, and keep the copy while the block runs.

        Parameters
        ----------
        path : str
            URL, or a local path, which is yielded unchanged.
        beat : callable
            Called at least every few seconds while a download or a wait lasts.

        Yields
        ------
        str
            Path of the local copy.

        Raises
        ------
        RemoteError
            If the file cannot be fetched, after several attempts.
        DiskFullError
            If it is larger than the limit, or the disk is full.
        """
        if not is_url(path):
            yield path
            return
        forget_listings(path)  # facts from an earlier run may be out of date
        facts = with_retries(lambda: file_facts(path), beat)
        if facts.bytes < 0:
            raise RemoteError(f"the server gives no size for {path}; download it yourself")
        if facts.bytes > self.limit_bytes:
            raise DiskFullError(
                f"{path} has {byte_size(facts.bytes)} and the cache {self.folder} may hold "
                f"{byte_size(self.limit_bytes)}; give it more with --cache-gb"
            )
        with ExitStack() as held:
            try:
                _private_folder(self.folder)
                copy = self.folder / _name(path, facts)
                while not self._lock(copy, facts.bytes, held, beat):
                    with _open_locked(copy.with_suffix(".lock"), fcntl.LOCK_EX, beat):
                        if not _is_whole(copy, facts.bytes):
                            with_retries(partial(self._fetch, path, facts, copy, beat), beat)
                os.utime(copy)  # the least recently used goes first
            except OSError as error:
                raise DiskFullError(
                    f"the cache {self.folder} cannot be used: {error}; choose another with --cache"
                ) from error
            yield str(copy)

    def _lock(self, copy: Path, count: int, held: ExitStack, beat: Callable[[], None]) -> bool:
        """Lock a complete copy until `open_locked` ends. Return False if there is no such copy."""
        with ExitStack() as draft:
            draft.enter_context(_open_locked(copy.with_suffix(".lock"), fcntl.LOCK_SH, beat))
            if _is_whole(copy, count):
                held.push(draft.pop_all())
                return True
        return False

    def _fetch(self, url: str, facts: FileFacts, copy: Path, beat: Callable[[], None]) -> None:
        part = copy.with_suffix(".part")
        try:
            part.unlink(missing_ok=True)  # left by a killed worker, whose lock this process holds
            with open(part, "xb", opener=_no_link) as file:
                self._free_space(file, facts.bytes, beat)
                for _ in download(url, file, _BLOCK_BYTES):
                    beat()
                done = file.tell()
            if done != facts.bytes:
                forget_listings(url)
                raise RemoteError(
                    f"{url}: received {count_noun(done, 'byte')} instead of {facts.bytes}"
                )
            forget_listings(url)
            if file_facts(url) != facts:
                raise RemoteError(f"{url} changed while it was fetched", reason="changed")
            part.replace(copy)
        finally:
            part.unlink(missing_ok=True)

    def _free_space(self, file: IO[bytes], count: int, beat: Callable[[], None]) -> None:
        """Grow a file to `count` bytes, after removing unused copies if the limit requires it.

        The call waits while all copies are used. Each worker uses one copy only, so one gets free.
        """
        while True:
            with _open_locked(self.folder / _ROOM_LOCK, fcntl.LOCK_EX, beat):
                sizes = self._sizes()
                used = sum(size for _, size, _ in sizes)
                for _, size, path in sorted(sizes):
                    if used + count <= self.limit_bytes:
                        break
                    if _remove_unused(path):
                        used -= size
                if used + count <= self.limit_bytes:
                    file.truncate(count)
                    return
            beat()
            time.sleep(_POLL_S)

    def _sizes(self) -> list[tuple[float, int, Path]]:
        """Return (time of the last use, bytes, path) of complete and partial copies."""
        found = []
        for entry in os.scandir(self.folder):
            if not entry.name.endswith(".lock"):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, Path(entry.path)))
        return found


def _private_folder(folder: Path) -> None:
    """Make a folder that only this user can enter, or check an existing one.

    Other users can write to the folder for temporary files, so one of them may have made it. A
    folder that others can read but not write to, as with mode 755, is accepted.

    Raises
    ------
    OSError
        If it is a link or no folder, belongs to another user, or others can write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError("it is a link or no folder, and another user may have put it there")
    if status.st_uid != os.getuid():
        raise PermissionError(f"it belongs to user {status.st_uid}, not to {os.getuid()}")
    if status.st_mode & 0o022:
        raise PermissionError(
            f"other users may write to it (mode {status.st_mode & 0o777:04o}); check its files, "
            "then chmod 700 it"
        )


def _is_whole(copy: Path, count: int) -> bool:
    """Return whether a path is a regular file of this user with `count` bytes, and no link."""
    try:
        status = copy.lstat()
    except FileNotFoundError:
        return False
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and status.st_nlink == 1
    return ours and status.st_size == count


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def default_cache() -> Cache:
    """Return a cache of 20 GB for this user, in the system's folder for temporary files."""
    return Cache(Path(tempfile.gettempdir()) / f"flowpipe-cache-{os.getuid()}", DEFAULT_BYTES)


def with_retries(step: Callable[[], T], beat: Callable[[], None]) -> T:
    """Call a function; repeat it after pauses while the server cannot be reached.

    Parameters
    ----------
    step : callable
        Function to call.
    beat : callable
        Called during the pauses, to show that this process lives.

    Returns
    -------
    T
        Its result.
    """
    for pause_s in PAUSES_S:
        try:
            return step()
        except RemoteError as error:
            if error.reason in ("missing", "changed"):
                raise
        until = time.monotonic() + pause_s
        while time.monotonic() < until:
            beat()
            time.sleep(_POLL_S)
    return step()


def _name(url: str, facts: FileFacts) -> str:
    """Return the name of a copy, which changes when the remote file does."""
    key = f"{url}\n{facts.bytes}\n{facts.mtime_ns}\n{facts.tag}"
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    extension = posixpath.splitext(url)[1]
    return digest + (extension if extension[1:].isalnum() else ".video")


def _remove_unused(copy: Path) -> bool:
    """Remove a complete or partial copy unless it is used. Return whether it was removed."""
    with open(copy.with_suffix(".lock"), "ab", opener=_no_link) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        copy.unlink(missing_ok=True)
        copy.with_suffix(".lock").unlink(missing_ok=True)
        return True


@contextmanager
def _open_locked(path: Path, how: int, beat: Callable[[], None]) -> Iterator[IO[bytes]]:
    """Make a file and hold a lock on it. The wait polls and calls `beat`, for the watchdog."""
    while True:
        lock = open(path, "ab", opener=_no_link)
        try:
            while True:
                try:
                    fcntl.flock(lock, how | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    beat()
                    time.sleep(_POLL_S)
            if _is_there(lock, path):
                yield lock
                return
        finally:
            lock.close()


def _is_there(lock: IO[bytes], path: Path) -> bool:
    """Return whether the locked file still has its name; if not, its copy has been removed."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.lstat())
    except FileNotFoundError:
        return False
