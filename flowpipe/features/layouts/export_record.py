"""Record of an export in its folder: the same export may go on, files of another one do not mix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowpipe import strict
from flowpipe.atomic import translate_write_errors, write_atomic
from flowpipe.errors import UsageError

_RECORD = Path(".flowpipe") / "features.json"


def begin_export(out: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder of an export and write its settings there, or compare those that are there.

    Parameters
    ----------
    out : Path
        Folder of the export.
    settings : mapping
        JSON values that determine the files.

    Raises
    ------
    FormatError
        If the record is damaged.
    UsageError
        If the folder has another export of features, or it cannot be written.
    """
    path = out / _RECORD
    if path.exists():
        there = strict.read_json(path)
        if there == settings:
            return
        names = sorted(key for key, value in settings.items() if there.get(key) != value)
        raise UsageError(
            f"{out} has an export of other features or with other options (different: "
            f"{', '.join(names)}); choose another folder, or delete this one"
        )
    with translate_write_errors(path.parent, "folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(settings, indent=1) + "\n").encode(), "record of the export")
