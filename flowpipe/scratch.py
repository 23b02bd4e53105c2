"""Folder for temporary files: removed after its block, or by a later run if its process dies."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowpipe.atomic import sweep
from flowpipe.owner import owner_name


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
    # The process of another machine may live, however old its folder is.
    with suppress(OSError):
        names = re.compile(rf"{re.escape(kind)}\.(?P<owner>.+)~[^~]+")
        sweep(parent, math.inf, names=names, own_folders=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{kind}.{owner_name()}~", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
