"""A folder -> the files below it, in a fixed order, each once even with links."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import BinaryIO

from flowpipe.datasets.texts import read_text
from flowpipe.errors import DatasetError, RemoteError
from flowpipe.remote import PathOrUrl, Url, files_below, open_path_or_url


@dataclass
class FileTree:
    """Files below a folder."""

    root: str
    files: list[str] = field(default_factory=list)
    """Paths relative to the root, forward slashes, sorted."""
    _: KW_ONLY
    dangling: list[str] = field(default_factory=list)
    """Links whose target does not exist, relative paths, sorted."""
    repeated: list[str] = field(default_factory=list)
    """Links to folders that are already in the tree, loops included; not entered."""
    hidden: list[str] = field(default_factory=list)
    """Hidden files, and hidden folders with a slash at the end; skipped."""
    special: list[str] = field(default_factory=list)
    """Pipes, sockets and devices; never opened."""

    @classmethod
    def from_path(cls, path: PathOrUrl) -> FileTree:
        """Read the tree below a path.

        Parameters
        ----------
        path : Path or URL
            A folder, or a file, which is a tree of one file.

        Returns
        -------
        FileTree
            The tree.
        """
        if path.is_file():
            return cls(str(path.parent), [posixpath.basename(str(path))])
        return cls.read(path)

    @classmethod
    def read(cls, root: PathOrUrl) -> FileTree:
        """Read the tree below a folder; real folders are read before links to folders.

        Parameters
        ----------
        root : Path or URL
            The folder.

        Returns
        -------
        FileTree
            The tree.

        Raises
        ------
        DatasetError
            If `root`, or a folder below it, is missing, not a folder, or unreadable.
        """
        if isinstance(root, Url):
            return cls._remote(root)
        tree = cls(str(root))
        seen: set[tuple[int, int]] = set()
        links = [""]
        while links:
            folder = links.pop(0)
            found = list(tree._walk(folder, seen))
            links = sorted(links + found)
        for names in (tree.files, tree.dangling, tree.repeated):
            names.sort()
        return tree

    @classmethod
    def _remote(cls, root: Url) -> FileTree:
        try:
            names = files_below(root)
        except RemoteError as error:
            raise DatasetError(str(error)) from error
        if not names:
            raise DatasetError(f"{root} contains no files or does not exist")
        return cls(str(root), names)

    def path(self, name: str) -> str:
        """Return the path of a file of the tree.

        Parameters
        ----------
        name : str
            Path below the root.

        Returns
        -------
        str
            Path or URL.
        """
        return f"{self.root}/{name}" if name else self.root

    def files_named(self, pattern: str) -> list[str]:
        """Find files by name, in any folder.

        Parameters
        ----------
        pattern : str
            Regular expression of the whole file name.

        Returns
        -------
        list of str
            Paths below the root.
        """
        wanted = re.compile(pattern)
        return [name for name in self.files if wanted.fullmatch(posixpath.basename(name))]

    def open(self, name: str) -> BinaryIO:
        """Open a file of the tree for reading.

        Parameters
        ----------
        name : str
            Path below the root.

        Returns
        -------
        BinaryIO
            The open file.
        """
        return open_path_or_url(self.path(name))

    def read_text(self, name: str) -> str:
        """Read a file of the tree as UTF-8 text.

        Parameters
        ----------
        name : str
            Path below the root.

        Returns
        -------
        str
            The text.

        Raises
        ------
        DatasetError
            If the file cannot be read.
        """
        return read_text(self.path(name))

    def _walk(self, top: str, seen: set[tuple[int, int]]) -> Iterator[str]:
        """Add the files below `top` without following links to folders; yield those links."""
        stack = [top]
        while stack:
            folder = stack.pop()
            path = self.path(folder)
            try:
                facts = os.stat(path)
                if (facts.st_dev, facts.st_ino) in seen:
                    self.repeated.append(folder)
                    continue
                entries = list(os.scandir(path))
            except OSError as error:
                raise DatasetError(
                    f"folder {path} cannot be read: {error.strerror}; "
                    "give a folder that exists and that you may read"
                ) from error
            seen.add((facts.st_dev, facts.st_ino))
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    kind = _kind(entry)
                except OSError:
                    kind = "file"  # the storage fails: the reader of the file reports it
                if entry.name.startswith("."):
                    self.hidden.append(f"{name}/" if "folder" in kind else name)
                elif kind == "dangling":
                    self.dangling.append(name)
                elif kind == "folder":
                    stack.append(name)
                elif kind == "link to a folder":
                    yield name
                elif kind == "file":
                    self.files.append(name)
                else:
                    self.special.append(name)


def _kind(entry: os.DirEntry[str]) -> str:
    """Return the kind of a folder entry; ``other`` stands for pipes, sockets and devices."""
    if entry.is_symlink() and not Path(entry.path).exists():
        return "dangling"
    if entry.is_dir():
        return "folder" if entry.is_dir(follow_symlinks=False) else "link to a folder"
    return "file" if entry.is_file() else "other"
