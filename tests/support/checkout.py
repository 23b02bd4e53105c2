"""The checkout under test: its root, and a PYTHONPATH for processes that tests start."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_path(*folders: str | Path) -> str:
    """A PYTHONPATH of these folders and, behind them, of what the tests were started with."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))
