"""Images of one stream while their shard is written: payloads on disk, tables in memory."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


@dataclass(kw_only=True)
class Spool:
    """Stream being written: payloads in a hidden file, tables in memory."""

    path: Path
    fd: int
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    crcs: array[int] = field(default_factory=lambda: array("I"))
    columns: list[Mapping[str, NDArray[Any]]] = field(default_factory=list)
    length: int = 0
    size: tuple[int, int] = (0, 0)
    """(height, width) of the open entry's images."""
