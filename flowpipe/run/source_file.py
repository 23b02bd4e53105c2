"""Source file -> size, time of change and SHA-256 of the bytes that were decoded, or `changed`.

A file can be replaced or overwritten while a worker decodes it. What a store says of it would then
belong to other bytes than its images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flowpipe.errors import DecodeError, storage_failed
from flowpipe.remote import Facts, facts_of, is_url

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Steady:
    """A file that is held open while it is decoded."""

    path: str
    local: str
    """Path of the copy of a remote file; `path` of a local one."""
    fd: int
    """Descriptor of the file; -1 if it could not be opened."""
    before: tuple[int, ...]
    """Device, inode, size and time of change when it was opened."""

    def facts(self) -> Facts:
        """Return the size and time of change of the source when it was opened."""
        if is_url(self.path):
            return facts_of(self.path)  # the cache has asked again after the download
        return Facts(bytes=self.before[2], mtime_ns=self.before[3])

    def sha256(self, beat: Callable[[], None]) -> str:
        """Return the SHA-256 of the held file; `beat` is called at every block."""
        digest, at = hashlib.sha256(), 0
        while block := os.pread(self.fd, _BLOCK_BYTES, at):
            digest.update(block)
            at += len(block)
            beat()
        return digest.hexdigest()

    def changed(self) -> bool:
        """Return whether the file was replaced or written to since it was opened."""
        if self.fd < 0:
            return False
        try:
            named = _identity(os.stat(self.local))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # the storage failed, which says nothing of the file
        return not self.before == named == _identity(os.fstat(self.fd))


@contextmanager
def steady(path: str, local: str) -> Iterator[Steady]:
    """Hold a source file while the block reads it.

    Parameters
    ----------
    path : str
        Path or URL of the source.
    local : str
        Path of the local copy that is read; `path` of a local file.

    Raises
    ------
    DecodeError
        With reason ``changed`` when the block ends or fails and the file is not as it was.
    OSError
        If the storage fails.
    """
    try:
        fd = os.open(local, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if storage_failed(error):
            raise
        fd = -1  # the decoder says what is wrong with it
    try:
        source = Steady(path, local, fd, _identity(os.fstat(fd)) if fd >= 0 else ())
        try:
            yield source
        except DecodeError as error:
            if source.changed():
                raise _changed(path) from error
            raise
        if fd < 0 or source.changed():
            raise _changed(path)
    finally:
        if fd >= 0:
            os.close(fd)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _changed(path: str) -> DecodeError:
    return DecodeError(
        f"{path} changed while it was read; the next run extracts it", reason="changed"
    )
