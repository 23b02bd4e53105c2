"""Official list files in any folder -> their lines; copies of a list must agree."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl, parse_path_or_url


@dataclass(frozen=True)
class ListFile:
    """Path and text of one list file."""

    path: str
    text: str

    @property
    def name(self) -> str:
        """File name."""
        return posixpath.basename(self.path)

    def rows(self) -> Iterator[tuple[int, str]]:
        """Yield every line that is not blank.

        Yields
        ------
        number : int
            Number of the line, from 1.
        text : str
            Line without white space at its ends.
        """
        for number, line in enumerate(self.text.splitlines(), 1):
            if line.strip():
                yield number, line.strip()

    def wrong(self, number: int, wanted: str, got: str) -> DatasetError:
        """Return the error for a line that differs from the official format.

        Parameters
        ----------
        number : int
            Number of the line.
        wanted : str
            The official form.
        got : str
            The line.

        Returns
        -------
        DatasetError
            The error.
        """
        return DatasetError(f"{self.path}:{number} must read {wanted}, got {got!r}")


@dataclass(frozen=True)
class Lists:
    """The list files of a data set."""

    tree: FileTree

    @classmethod
    def from_path(cls, videos: FileTree, annotations: PathOrUrl | None) -> Lists:
        """Find the official lists.

        Parameters
        ----------
        videos : FileTree
            Files of the videos.
        annotations : Path or URL or None
            Folder or file of the lists; None for those among the videos.

        Returns
        -------
        Lists
            The lists.
        """
        return cls(
            videos if annotations is None else FileTree.from_path(parse_path_or_url(annotations))
        )

    def find(self, pattern: str) -> list[ListFile]:
        """Find lists by name.

        Parameters
        ----------
        pattern : str
            Regular expression of the whole file name.

        Returns
        -------
        list of ListFile
            Lists, sorted by name.

        Raises
        ------
        DatasetError
            If two files of one name differ in more than white space, or one is unreadable.
        """
        found: dict[str, ListFile] = {}
        for name in self.tree.files_named(pattern):
            one = ListFile(self.tree.path(name), self.tree.read_text(name))
            other = found.setdefault(one.name, one)
            if other.text.split() != one.text.split():
                raise DatasetError(
                    f"{other.path} and {one.path} differ; remove or move away one of them"
                )
        return [found[name] for name in sorted(found)]

    def require(self, pattern: str, what: str) -> list[ListFile]:
        """Find lists by name; there must be one.

        Parameters
        ----------
        pattern : str
            Regular expression of the whole file name.
        what : str
            What the lists are, for the message.

        Returns
        -------
        list of ListFile
            Lists, sorted by name.

        Raises
        ------
        DatasetError
            If there is none.
        """
        found = self.find(pattern)
        if not found:
            raise DatasetError(
                f"no {what} below {self.tree.root}; unpack it there, or name its folder with "
                "--annotations"
            )
        return found
