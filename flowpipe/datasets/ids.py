"""File names -> video ids: unique, printable, short text for any file name.

An id is a key in stores and ledgers, never a path. It depends only on the name of its own
file, so it stays the same when a folder or list changes. Rules:

- the path below the root as it is, extension included, with forward slashes on every system;
- a byte that is no valid UTF-8, a control character and the backslash itself are written ``\\xNN``
  and ``\\\\``, as in a Python string; no two names get one id;
- an id of more than 240 bytes of UTF-8 is cut and ends in ``~`` and 16 hex digits of its SHA-256.
"""

from __future__ import annotations

import hashlib

from flowpipe.types import MAX_VIDEO_ID_BYTES

_DIGEST_CHARS = 16
_BREAKS = "\u2028\u2029"  # some programs treat these as line ends


def escape(name: str) -> str:
    """Make a file name printable.

    Parameters
    ----------
    name : str
        File name, possibly with ``surrogateescape``.

    Returns
    -------
    str
        Printable text.
    """
    if name.isprintable() and "\\" not in name:
        return name
    text = []
    for char in name:
        code = ord(char)
        if char == "\\":
            text.append("\\\\")
        elif 0xDC80 <= code <= 0xDCFF:
            text.append(f"\\x{code - 0xDC00:02x}")
        elif 0xD800 <= code <= 0xDFFF or code < 0x20 or 0x7F <= code < 0xA0 or char in _BREAKS:
            raw = char.encode("utf-8", "surrogatepass")
            text.append("".join(f"\\x{byte:02x}" for byte in raw))
        else:
            text.append(char)
    return "".join(text)


def without_extension(name: str) -> str:
    """Remove the last extension; leading dots and dots in folder names are no extension.

    Parameters
    ----------
    name : str
        Path or file name.

    Returns
    -------
    str
        The name without its extension.
    """
    stem, dot, extension = name.rpartition(".")
    if not dot or "/" in extension or not stem or stem.endswith("/"):
        return name
    return stem


def shorten(video_id: str) -> str:
    """Cut an id that is too long and append a digest that keeps it unique.

    Parameters
    ----------
    video_id : str
        Id of any length.

    Returns
    -------
    str
        Id that a store can hold.
    """
    if len(video_id) * 4 <= MAX_VIDEO_ID_BYTES:
        return video_id
    raw = video_id.encode("utf-8")
    if len(raw) <= MAX_VIDEO_ID_BYTES:
        return video_id
    digest = hashlib.sha256(raw).hexdigest()[:_DIGEST_CHARS]
    kept = raw[: MAX_VIDEO_ID_BYTES - _DIGEST_CHARS - 1].decode("utf-8", "ignore")
    return f"{kept}~{digest}"


def id_of(name: str) -> str:
    """Return the id of a video.

    Parameters
    ----------
    name : str
        Relative path, with forward slashes.

    Returns
    -------
    str
        The id.
    """
    return shorten(escape(name))
