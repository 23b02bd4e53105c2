"""A path in a list file -> path on disk, video id, and a hint if it does not exist."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from flowpipe.datasets.ids import escape, id_of
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl, Url, is_url, parse_path_or_url
from flowpipe.words import count_noun, nearest_names, suggest

_DRIVE = re.compile(r"([A-Za-z]):[\\/]+")
_SHARE = re.compile(r"\\\\[^\\]+\\")


class ListPaths:
    """Converts the paths of a list into paths on disk and video ids.

    Parameters
    ----------
    base : Path or Url
        Folder that relative paths start at. The id of a video below it is the relative path.
    """

    def __init__(self, base: PathOrUrl) -> None:
        self.base = str(base).rstrip("/")
        self._local = not isinstance(base, Url)
        self._real: dict[str, str] = {}
        self._names: dict[Path, list[str]] = {}

    def full(self, path: str) -> str:
        """Return the absolute path or URL of a path of the list.

        Parameters
        ----------
        path : str
            Path of the list.

        Returns
        -------
        str
            Absolute path or URL.
        """
        return path if _is_absolute(path) else f"{self.base}/{path}"

    def exists(self, path: str) -> bool:
        """Return whether a path of a local list exists; Windows paths are translated.

        Parameters
        ----------
        path : str
            Path of the list.

        Returns
        -------
        bool
            True if it exists; False for URLs and remote lists.
        """
        return self._local and not is_url(path) and self._exists(self.translate(path))

    def translate(self, path: str) -> str:
        r"""Return a path with ``\`` as this system writes it; unchanged if that file exists.

        Parameters
        ----------
        path : str
            Path of the list.

        Returns
        -------
        str
            Path as this system writes it.
        """
        if "\\" not in path and not _DRIVE.match(path):
            return path
        if not self._local or is_url(path) or self._exists(path):
            return path
        drive = _DRIVE.match(path)
        if drive:  # mount point of drives in the Windows Subsystem for Linux
            mounted = f"/mnt/{drive[1].lower()}/{path[drive.end() :]}".replace("\\", "/")
            return mounted if self._exists(mounted) else path
        return path if _SHARE.match(path) else path.replace("\\", "/")

    def translate_checked(self, path: str, where: str) -> str:
        """Return a path of the list in the notation of this system.

        Parameters
        ----------
        path : str
            Path of the list.
        where : str
            File and line, for the message.

        Returns
        -------
        str
            Path as this system writes it.

        Raises
        ------
        DatasetError
            If it names a Windows drive or share; the message begins with `where`.
        """
        path = self.translate(path)
        if ("\\" in path or ":" in path[:2]) and self._local and not is_url(path):
            found = _DRIVE.match(path) or _SHARE.match(path)
            if found and not self._exists(path):
                raise DatasetError(
                    f"{where}: {escape(path)} is a path on a Windows drive or share, and this "
                    f"machine has no file of that name; replace {found[0]} in the list by the "
                    "folder that holds the videos here, or take it out and give that folder with "
                    "--root"
                )
        return path

    def ids(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """Make the ids of the videos of the list.

        Parameters
        ----------
        paths : sequence of str
            Translated paths.

        Returns
        -------
        ids : list of str
            Id of each path.
        outside : list of str
            Paths outside of the base folder.
        """
        names: list[str] = []
        outside: list[str] = []
        for path in paths:
            if _is_absolute(path):
                below = self._below(path)
                if below is None:
                    outside.append(path)
                    below = os.path.normpath(path).lstrip("/")
                names.append(below)
            else:
                names.append(os.path.normpath(path))
        return names, outside

    def note(self, outside: Sequence[str], count: int) -> str:
        """Describe absolute paths outside the base folder.

        Parameters
        ----------
        outside : sequence of str
            These paths.
        count : int
            Number of all paths.

        Returns
        -------
        str
            Note; empty if there are none.
        """
        if not outside:
            return ""
        text = (
            f"{len(outside)} of {count_noun(count, 'path')} of the list do not lie below "
            f"{self.base}, so the id of each is its whole path (first: "
            f"{id_of(outside[0].lstrip('/'))}) and "
            "changes when the videos move"
        )
        if is_url(outside[0]):
            return f"{text}; add --root with a folder above them for ids relative to it"
        folders = [os.path.split(os.path.normpath(path))[0] for path in outside]
        common = os.path.commonpath([min(folders), max(folders)])
        return f"{text}; add --root {escape(common)} for ids relative to that folder"

    def describe_missing(self, path: str) -> str:
        """Describe a file that does not exist, with a hint to a similar existing file.

        Parameters
        ----------
        path : str
            Path that does not exist.

        Returns
        -------
        str
            Text for a message.
        """
        text = f"no file {escape(path)}"
        if is_url(path):
            return text
        hint = self._hint(path)
        return f"{text}; {hint}" if hint else text

    def _hint(self, path: str) -> str:
        if path.startswith(f"{self.base}/"):
            relative = path[len(self.base) + 1 :]
            if relative.startswith("~"):
                return "~ is not expanded in lists; write the path of the home folder"
            for folder in (Path.cwd(), Path(self.base).parent):
                if str(folder) != self.base and (folder / relative).exists():
                    return f"it lies below {escape(str(folder))}: add --root {escape(str(folder))}"
        wanted = Path(path)
        while not wanted.parent.is_dir():
            wanted = wanted.parent
        names = self._list_names(wanted.parent)
        close = nearest_names(wanted.name, names)
        what = "" if wanted == Path(path) else f"there is no {escape(str(wanted))} either; "
        if close:
            return f"{what}{suggest([escape(str(wanted.parent / close[0]))])}"
        return what.removesuffix("; ")

    def _list_names(self, folder: Path) -> list[str]:
        if folder not in self._names:
            try:
                self._names[folder] = sorted(entry.name for entry in folder.iterdir())
            except OSError:
                self._names[folder] = []
        return self._names[folder]

    def _exists(self, path: str) -> bool:
        try:
            return Path(self.full(path)).exists()
        except (OSError, ValueError):  # not a valid file name
            return False

    def _below(self, path: str) -> str | None:
        """Return the path relative to the base, with links resolved; None if it lies outside."""
        if is_url(path) or not self._local:
            return path[len(self.base) + 1 :] if path.startswith(f"{self.base}/") else None
        folder, name = os.path.split(os.path.normpath(path))
        real = self._real.get(folder)
        if real is None:
            own = folder == self.base or folder.startswith(f"{self.base}/")
            real = self._real[folder] = folder if own else os.path.realpath(folder)
        if real == self.base:
            return name
        start = f"{self.base}/"
        return f"{real[len(start) :]}/{name}" if real.startswith(start) else None


def _is_absolute(path: str) -> bool:
    return path[:1] == os.sep or (is_url(path) and bool(parse_path_or_url(path)))
