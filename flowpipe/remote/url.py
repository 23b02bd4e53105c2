"""URLs and local paths -> file facts, listings and open files. The only module that uses fsspec.

Credentials and endpoints come from the environment and from the configuration files of fsspec and
its libraries (AWS_PROFILE, AWS_ENDPOINT_URL, ~/.aws, ~/.config/fsspec). A URL that contains
credentials is refused, because URLs are written into stores.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from flowpipe.distribution import install_command
from flowpipe.errors import RemoteError, UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_AT_ONCE = 32
_BLOCK_BYTES = 1 << 18  # of an open file: a header takes one request or two


class Url(str):
    """URL of a remote file or folder."""

    @property
    def parent(self) -> str:
        """URL of the folder that contains it."""
        return self.rpartition("/")[0]

    def is_dir(self) -> bool:
        """Return whether this is a folder."""
        with _translate_errors(self):
            fs, path = _open_file_system(self)
            return bool(fs.isdir(path))

    def exists(self) -> bool:
        """Return whether the file or folder exists."""
        with _translate_errors(self):
            fs, path = _open_file_system(self)
            return bool(fs.exists(path))

    def is_file(self) -> bool:
        """Return whether this is a file."""
        with _translate_errors(self):
            fs, path = _open_file_system(self)
            return bool(fs.isfile(path))


PathOrUrl = Path | Url


@dataclass(frozen=True)
class FileFacts:
    """Size and modification time of a file, without opening it."""

    bytes: int
    """Size; -1 if the server does not give it."""
    mtime_ns: int
    """Modification time, nanoseconds since 1970; 0 if the server does not give it."""
    regular: bool = True
    tag: str = ""
    """ETag, which changes with the content; empty if the server gives none."""


_known: dict[str, FileFacts] = {}
"""Facts from listings, by URL, so that a million videos need no request each."""


def is_url(path: object) -> bool:
    """Return whether a path is a URL.

    Parameters
    ----------
    path : object
        Path or URL.

    Returns
    -------
    bool
        True for the text of a URL.
    """
    return isinstance(path, str) and _URL.match(path) is not None


def parse_path_or_url(text: str | os.PathLike[str]) -> PathOrUrl:
    """Parse a local path, or a URL without a slash at its end.

    Parameters
    ----------
    text : path
        Path or URL.

    Returns
    -------
    Path or Url
        The parsed one.

    Raises
    ------
    UsageError
        If the URL contains a password or, for HTTP, a query.
    """
    if isinstance(text, Url) or not is_url(text):
        return text if isinstance(text, Url) else Path(text)
    url = str(text)
    parts = urlsplit(url)
    secret = parts.password is not None or (parts.scheme in ("http", "https") and parts.query)
    if secret:
        shown = f"{parts.scheme}://{parts.hostname}/..."
        raise UsageError(
            f"{shown} contains a password or a query, and URLs are written into stores; configure "
            "access through the environment or ~/.config/fsspec instead"
        )
    return Url(url.rstrip("/"))


def files_below(root: Url) -> list[str]:
    """List all files below a URL, without hidden ones.

    Parameters
    ----------
    root : Url
        Folder.

    Returns
    -------
    list of str
        Names relative to it, sorted.

    Raises
    ------
    RemoteError
        If it cannot be listed.
    """
    with _translate_errors(root):
        fs, top = _open_file_system(root)
        found = fs.find(top, detail=True)
    names = []
    for path, info in found.items():
        name = path[len(top) :].lstrip("/")
        if not name or name.endswith("/") or any(p.startswith(".") for p in name.split("/")):
            continue
        names.append(name)
        _known[f"{root}/{name}"] = _facts(info)
    return sorted(names)


def file_facts(path: str) -> FileFacts:
    """Look up size and modification time of a local or remote file.

    Parameters
    ----------
    path : str
        Path or URL.

    Returns
    -------
    FileFacts
        The facts.

    Raises
    ------
    OSError
        If the facts of a local file cannot be read.
    RemoteError
        If the facts of a remote file cannot be read; reason ``missing`` if it does not exist.
    """
    if not is_url(path):
        status = os.stat(path)
        return FileFacts(status.st_size, status.st_mtime_ns, stat.S_ISREG(status.st_mode))
    facts = _known.get(path)
    if facts is None:
        with _translate_errors(path):
            fs, name = _open_file_system(path)
            facts = _known[path] = _facts(fs.info(name))
    return facts


def stat_urls(paths: Iterable[str]) -> None:
    """Request facts of many URLs concurrently and keep them for `file_facts`.

    Local paths and URLs with known facts are skipped. Errors are left to `file_facts`.

    Parameters
    ----------
    paths : iterable of str
        Paths and URLs.
    """
    unknown = [path for path in paths if is_url(path) and path not in _known]
    if not unknown:
        return

    def ask(path: str) -> None:
        try:
            file_facts(path)
        except RemoteError:
            pass  # file_facts raises it again

    ask(unknown[0])  # connects, or fails, once
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(ask, unknown[1:]))


def forget_listings(url: str) -> None:
    """Drop the known facts of a URL, so that `file_facts` requests them again.

    Parameters
    ----------
    url : str
        URL of a file.
    """
    _known.pop(url, None)


def open_path_or_url(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading and seeking; of a remote file, only the parts read are fetched.

    Parameters
    ----------
    path : path
        Path or URL.

    Returns
    -------
    BinaryIO
        The open file.

    Raises
    ------
    OSError, RemoteError
        If it cannot be opened.
    """
    if not is_url(path):
        return Path(path).open("rb")
    url = os.fspath(path)
    with _translate_errors(url):
        fs, name = _open_file_system(url)
        return cast(BinaryIO, fs.open(name, "rb", block_size=_BLOCK_BYTES))


def download(url: str, target: BinaryIO, block_bytes: int) -> Iterator[int]:
    """Copy a remote file to an open file.

    Parameters
    ----------
    url : str
        URL of the file.
    target : BinaryIO
        File to write to.
    block_bytes : int
        Bytes that are requested at once.

    Yields
    ------
    int
        Bytes of each block.
    """
    with _translate_errors(url):
        fs, name = _open_file_system(url)
        source = fs.open(name, "rb", block_size=block_bytes, cache_type="readahead")
    with source:
        while True:
            with _translate_errors(url):
                block = source.read(block_bytes)
            if not block:
                return
            target.write(block)
            yield len(block)


def _open_file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, which fsspec caches, and the path on it."""
    import fsspec

    scheme = url.partition("://")[0]
    try:
        if "::" in url:
            raise UsageError(f"{url}: chained URLs (::) are not supported; give a plain URL")
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        way_out = f"pip install {package}" if package else "install its fsspec package"
        if scheme in ("s3", "s3a"):
            way_out = install_command("s3")
        raise UsageError(f"{scheme}:// is not available here: {error}; {way_out}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    return fs, path


def _facts(info: dict[str, Any]) -> FileFacts:
    when = next((info[k] for k in ("LastModified", "mtime", "updated") if info.get(k)), 0)
    seconds = when.timestamp() if hasattr(when, "timestamp") else when
    mtime_ns = int(seconds * 1e9) if isinstance(seconds, (int, float)) else 0
    size = info.get("size")
    return FileFacts(
        -1 if size is None else int(size),
        mtime_ns,
        info.get("type", "file") == "file",
        str(info.get("ETag") or info.get("etag") or ""),
    )


@contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    """Raise errors of fsspec's libraries in the block as RemoteError."""
    try:
        yield
    except (RemoteError, UsageError):
        raise
    except FileNotFoundError as error:
        raise RemoteError(f"{url} does not exist", reason="missing") from error
    except Exception as error:  # botocore's, aiohttp's and others' errors have no common base
        words = str(error) or type(error).__name__
        raise RemoteError(
            f"{url} cannot be reached: {words}; check the address, the network and the credentials"
        ) from error
