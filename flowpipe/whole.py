"""Bytes -> a file that is there whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from flowpipe.errors import UsageError


def write_whole(path: str | os.PathLike[str], content: bytes, what: str = "file") -> None:
    """Write a file under a temporary name beside it, then rename it.

    Parameters
    ----------
    path : path
        An existing file is replaced.
    content : bytes
    what : str
        What the file is, for the error.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    path = Path(path)
    half = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        try:
            half.write_bytes(content)
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {what} {path}: {error.strerror}") from error
