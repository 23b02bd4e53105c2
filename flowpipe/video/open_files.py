"""Open file -> a file as FFmpeg reads it: without a name, or keeping the error of a failed read."""

from __future__ import annotations

import io
from typing import BinaryIO


class UnnamedFile:
    """Open file without a name.

    Parameters
    ----------
    file : binary file
        File whose methods are used.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


class WatchedFile(io.FileIO):
    """Local file that keeps the error of a failed read, which many demuxers take for its end."""

    failure: OSError | None = None
    """Error of the latest failed read."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read from the file by one system call.

        Parameters
        ----------
        size : int or None
            Most bytes to read; -1 or None for all.

        Returns
        -------
        bytes
            Bytes that were read.
        """
        try:
            return super().read(-1 if size is None else size)
        except OSError as error:
            self.failure = error
            raise
