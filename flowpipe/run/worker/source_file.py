"""Source file -> size, modification time and SHA-256 of the decoded bytes, or error ``changed``.

A file can be replaced or overwritten while a worker decodes it. The stored facts would then belong
to other bytes than the stored images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flowpipe.errors import DecodeError, is_storage_failure
from flowpipe.remote import FileFacts, file_facts, is_url

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """Source file that stays open while it is decoded."""

    path: str
    """Path or URL of the source."""
    local: str
    """Path of the copy of a remote file; `path` for a local file."""
    fd: int
    """File descriptor; -1 if the file could not be opened."""
    before: tuple[int, ...]
    """Device, inode, size and modification time when the file was opened."""

    def facts(self) -> FileFacts:
        """Return the size and modification time of the source when it was opened."""
        if is_url(self.path):
            return file_facts(self.path)  # the cache has updated them after the download
        return FileFacts(bytes=self.before[2], mtime_ns=self.before[3])

    def sha256(self, beat: Callable[[], None]) -> str:
        """Compute the SHA-256 of the open file.

        Parameters
        ----------
        beat : callable
            Called at every block, to show that this process works.

        Returns
        -------
        str
            Hexadecimal digest.
        """
        digest, at = hashlib.sha256(), 0
        while block := os.pread(self.fd, _BLOCK_BYTES, at):
            digest.update(block)
            at += len(block)
            beat()
        return digest.hexdigest()

    def has_changed(self) -> bool:
        """Return whether the file was replaced or written to since it was opened."""
        if self.fd < 0:
            return False
        try:
            named = _identity(os.stat(self.local))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # a storage failure says nothing about the file
        return not self.before == named == _identity(os.fstat(self.fd))


@contextmanager
def open_source(path: str, local: str) -> Iterator[SourceFile]:
    """Keep a source file open while the block reads it.

    Parameters
    ----------
    path : str
        Path or URL of the source.
    local : str
        Path of the copy of a remote file; `path` for a local file.

    Yields
    ------
    SourceFile

    Raises
    ------
    DecodeError
        With reason ``changed`` if the file has changed when the block ends or fails.
    OSError
        If the storage fails.
    """
    try:
        fd = os.open(local, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if is_storage_failure(error):
            raise
        fd = -1  # the decoder reports the error
    try:
        source = SourceFile(path, local, fd, _identity(os.fstat(fd)) if fd >= 0 else ())
        try:
            yield source
        except DecodeError as error:
            if source.has_changed():
                raise _changed_error(path) from error
            raise
        if fd < 0 or source.has_changed():
            raise _changed_error(path)
    finally:
        if fd >= 0:
            os.close(fd)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _changed_error(path: str) -> DecodeError:
    return DecodeError(
        f"{path} changed while it was read; the next run extracts it", reason="changed"
    )
