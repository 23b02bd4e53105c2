"""Folder for temporary files: removed after its block, or by a later run if its process dies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowpipe.owner import owner_is_gone, owner_name


@contextmanager
def scratch_folder(kind: str, parent: Path | None = None) -> Iterator[Path]:
    """Make an empty folder that only this user can enter, and remove it after the block.

    Folders of the same kind from killed processes are removed first. A folder stays if its process
    is alive or cannot be seen from here.

    Parameters
    ----------
    kind : str
        Prefix of its name. The rest names the process and cannot be guessed.
    parent : Path, optional
        Parent folder; default: the system's folder for temporary files.

    Yields
    ------
    Path
        The block may move the folder away.
    """
    parent = parent or Path(tempfile.gettempdir())
    _sweep(kind, parent)
    with tempfile.TemporaryDirectory(
        prefix=f"{kind}.{owner_name()}~", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _sweep(kind: str, parent: Path) -> None:
    """Remove folders of this user's processes that have ended."""
    prefix = f"{kind}."
    with suppress(OSError):
        for path in parent.iterdir():
            named = path.name.removeprefix(prefix).rpartition("~")[0]
            # An owner that cannot be seen from here may live: age 0 keeps its folder.
            if not path.name.startswith(prefix) or not owner_is_gone(named, age_s=0):
                continue
            with suppress(OSError):
                if path.lstat().st_uid == os.getuid():
                    shutil.rmtree(path, ignore_errors=True)  # follows no link
