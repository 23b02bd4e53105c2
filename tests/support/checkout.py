"""The checkout under test: its root, and a PYTHONPATH for processes that tests start."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_path(*folders: str | Path) -> str:
    """Return a PYTHONPATH of these folders, followed by the one of the tests."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))
