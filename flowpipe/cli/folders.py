"""Parameter types of folders that flowpipe makes: stores and runs -> checked paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from flowpipe.cli.paths import LocalPath
from flowpipe.store.layout import STORE_FILE
from flowpipe.tsn.recipe import RUN_FILE
from flowpipe.words import list_some, nearest_names, suggest


@dataclass(frozen=True)
class FolderKind:
    """Kind of folder that commands make."""

    name: str
    file: str
    """File that every such folder has."""
    makers: str
    """Commands that make one."""

    def is_at(self, folder: Path) -> bool:
        """Return whether the folder is one; True if it cannot be read, which its reader reports."""
        try:
            (folder / self.file).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def inside(self, folder: Path) -> list[str]:
        """Return the names of the folders of this kind in a folder, sorted."""
        try:
            return sorted(path.name for path in folder.iterdir() if self.is_at(path))
        except OSError:
            return []


STORE_FOLDER = FolderKind("store", STORE_FILE, "`flowpipe extract` or `flowpipe import`")
RUN_FOLDER = FolderKind("run", RUN_FILE, "`flowpipe train` or `flowpipe adopt`")


class MadeFolder(LocalPath):
    """A folder to read, of one of some kinds.

    Parameters
    ----------
    *kinds : FolderKind
        Kinds that the command reads.
    or_file : bool
        True if the command reads a file in its place, too.
    or_folder : bool
        True if the command reads other folders, too.
    """

    def __init__(self, *kinds: FolderKind, or_file: bool = False, or_folder: bool = False) -> None:
        super().__init__(file_okay=or_file)
        self._kinds, self._or_folder = kinds, or_folder

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        path: Path = super().convert(value, param, ctx)
        if path.is_file() or (self._or_folder and path.is_dir()):
            return path
        if any(kind.is_at(path) for kind in self._kinds):
            return path
        wanted = "; ".join(
            f"a {kind.name} is a folder with {kind.file}, made by {kind.makers}"
            for kind in self._kinds
        )
        there = self._describe(path)
        asks = there.endswith("?")
        said = f"{there} {wanted[0].upper()}{wanted[1:]}" if asks else f"{there}; {wanted}"
        raise click.BadParameter(said, ctx, param)

    def _describe(self, path: Path) -> str:
        """Return what is at a path instead of the folder, and the folders that may be meant."""
        if path.is_dir():
            for kind in (STORE_FOLDER, RUN_FOLDER):
                if kind.is_at(path):
                    return f"{path} is a {kind.name}"
            files = " or ".join(kind.file for kind in self._kinds)
            inside = [str(path / name) for kind in self._kinds for name in kind.inside(path)]
            contains = f", but it contains {list_some(inside)}" if inside else ""
            return f"{path} has no {files}{contains}"
        beside = [name for kind in self._kinds for name in kind.inside(path.parent)]
        if near := nearest_names(path.name, beside):
            return f"{path} does not exist; {suggest([str(path.parent / near[0])])}"
        there = f"; {path.parent} contains {list_some(beside)}" if beside else ""
        return f"{path} does not exist{there}"


STORE, RUN = MadeFolder(STORE_FOLDER), MadeFolder(RUN_FOLDER)
STORE_OR_RUN = MadeFolder(STORE_FOLDER, RUN_FOLDER)
STORE_OR_FILE = MadeFolder(STORE_FOLDER, or_file=True)
STORE_OR_OTHER = MadeFolder(STORE_FOLDER, or_file=True, or_folder=True)
