"""A local or remote list, annotation or class-name file -> its text, of bounded size."""

from __future__ import annotations

import os

from flowpipe import strict
from flowpipe.errors import DatasetError, RemoteError
from flowpipe.remote import is_url, open_path_or_url


def read_text(path: str | os.PathLike[str], what: str = "file") -> str:
    """Return the text of a UTF-8 file without a byte order mark.

    Parameters
    ----------
    path : path or URL
        File to read.
    what : str
        Kind of the file, for the error message.

    Returns
    -------
    str
        The text.

    Raises
    ------
    DatasetError
        If it is missing, no regular file, not UTF-8, cannot be read, or is larger than
        `strict.MOST_BYTES`.
    """
    try:
        if not is_url(path):
            text = strict.read_text(path, error=DatasetError)
        else:
            with open_path_or_url(path) as file:
                content = file.read(strict.MOST_BYTES + 1)
            if len(content) > strict.MOST_BYTES:
                raise DatasetError(f"{path} is larger than {strict.MOST_BYTES} bytes")
            text = content.decode("utf-8")
    except DatasetError as error:
        raise DatasetError(f"{what} cannot be read: {error}", reason=error.reason) from error
    except (OSError, UnicodeDecodeError, RemoteError) as error:
        raise DatasetError(f"{what} {path} cannot be read: {error}") from error
    return text.removeprefix("\ufeff")
