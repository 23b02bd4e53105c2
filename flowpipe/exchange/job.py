"""ExportJob -> Exported, ImportJob -> Imported: what is asked for and what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from flowpipe.exchange.image_files import JPEG
from flowpipe.exchange.layouts import Pairing
from flowpipe.store import Store, open_store

WINDOW = 64
"""Images that are in memory at once."""


@dataclass(frozen=True)
class ExportJob:
    """What of a store goes where, and how."""

    store: Path
    out: Path
    layout: str
    """A key of `LAYOUTS`, or `WEBDATASET`."""
    modalities: tuple[str, ...] = ()
    """None for all that the store has."""
    only: tuple[str, ...] = ()
    """Subsets or splits; none for all videos."""
    extension: str = JPEG
    """Of what has to be compressed again."""
    quality: int = 95
    exact: bool = True
    """Whether payloads are kept beside files that do not hold every value."""
    tar_bytes: int = 1 << 30
    workers: int = 1


@dataclass
class Exported:
    """What an export did."""

    videos: int = 0
    already: int = 0
    files: int = 0
    bytes: int = 0
    difference_sum: float = 0.0
    differences: int = 0
    lists: list[Path] = field(default_factory=list)

    def add(self, other: Exported) -> None:
        self.videos += other.videos
        self.already += other.already
        self.files += other.files
        self.bytes += other.bytes
        self.difference_sum += other.difference_sum
        self.differences += other.differences

    @property
    def mean_difference(self) -> float | None:
        """Mean absolute difference to the store, in levels, of what was compressed again."""
        return self.difference_sum / self.differences if self.differences else None


@dataclass(frozen=True)
class ImportJob:
    """What becomes a store, and what has to be said of folders that flowpipe did not write."""

    folder: Path
    store: Path
    layout: str = ""
    """A key of `LAYOUTS`, which says the pairing; or `pairing` itself."""
    pairing: Pairing | None = None
    bound: float = 0.0
    """Pixels that the bytes 0 and 255 of a flow field stand for."""
    fps: float = 0.0
    dataset: str = ""
    """Name of the data set, which decides how scores are evaluated."""
    class_names: tuple[str, ...] = ()
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By folder, as list files write it; only its last names have to agree."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    workers: int = 1


@dataclass
class Imported:
    """What an import did."""

    videos: int = 0
    already: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(folder or tar, what is wrong with it)"""
    unlisted: list[str] = field(default_factory=list)
    """Folders that no list names: they have no label."""
    absent: list[str] = field(default_factory=list)
    """Folders that a list names and that are not there."""

    def add(self, other: Imported) -> None:
        self.videos += other.videos
        self.already += other.already
        self.failed += other.failed


@cache
def opened(path: Path) -> Store:
    """The store at `path`, opened once in each process."""
    return open_store(path)
