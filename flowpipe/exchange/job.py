"""Arguments and results of exports and imports: ExportJob, Exported, ImportJob, Imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from pathlib import Path

from flowpipe.exchange.image_files import JPEG
from flowpipe.exchange.layouts import Pairing
from flowpipe.store import Store, open_store

WINDOW = 64
"""Images that are in memory at the same time."""


@dataclass(frozen=True)
class ExportJob:
    """Arguments of an export."""

    store: Path
    out: Path
    """Folder to write to."""
    layout: str
    """Key of `LAYOUTS`, or `WEBDATASET`."""
    _: KW_ONLY
    modalities: tuple[str, ...] = ()
    """Modalities to export; empty for all."""
    only: tuple[str, ...] = ()
    """Subsets or splits to export; empty for all videos."""
    extension: str = JPEG
    """Extension of files that are compressed again."""
    quality: int = 95
    """JPEG quality of files that are compressed again, 1..100."""
    exact: bool = True
    """True if payloads are kept beside files that do not hold every value."""
    tar_bytes: int = 1 << 30
    """Largest size of a tar, bytes; a tar with one video may be larger."""
    workers: int = 1


@dataclass(kw_only=True)
class Exported:
    """Result of an export."""

    videos: int = 0
    """Videos written."""
    already: int = 0
    """Videos that were there before."""
    files: int = 0
    bytes: int = 0
    difference_sum: float = 0.0
    """Sum of absolute differences to the store, levels, over the values that were compared."""
    differences: int = 0
    """Number of values that were compared."""
    lists: list[Path] = field(default_factory=list)
    """List files written."""

    def add(self, other: Exported) -> None:
        """Add the counts of another result.

        Parameters
        ----------
        other : Exported
            Counts to add.
        """
        self.videos += other.videos
        self.already += other.already
        self.files += other.files
        self.bytes += other.bytes
        self.difference_sum += other.difference_sum
        self.differences += other.differences

    @property
    def mean_difference(self) -> float | None:
        """Mean absolute difference of recompressed images to the store, levels; None if none."""
        return self.difference_sum / self.differences if self.differences else None


@dataclass(frozen=True)
class ImportJob:
    """Arguments of an import.

    All but the first two describe folders of another tool. They stay empty for exports of flowpipe.
    """

    folder: Path
    store: Path
    _: KW_ONLY
    layout: str = ""
    """Key of `LAYOUTS`, which implies the pairing; or empty with `pairing`."""
    pairing: Pairing | None = None
    bound: float = 0.0
    """Flow displacement of the bytes 0 and 255, pixels."""
    fps: float = 0.0
    """Frames per second."""
    dataset: str = ""
    """Name of the data set, which decides how scores are evaluated."""
    class_names: tuple[str, ...] = ()
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Labels by folder as list files write it; only the last names of the path have to agree."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Splits by folder, as `labels`."""
    workers: int = 1


@dataclass
class Imported:
    """Result of an import."""

    videos: int = 0
    """Videos added."""
    already: int = 0
    """Videos that were there before."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(folder or tar, error message)"""
    unlisted: list[str] = field(default_factory=list)
    """Folders that no list names; they have no label."""
    absent: list[str] = field(default_factory=list)
    """Listed folders that do not exist."""

    def add(self, other: Imported) -> None:
        """Add the counts of another result.

        Parameters
        ----------
        other : Imported
            Counts to add.
        """
        self.videos += other.videos
        self.already += other.already
        self.failed += other.failed


@cache
def open_cached(path: Path) -> Store:
    """Open a store, once in each process.

    Parameters
    ----------
    path : Path
        Folder of the store.

    Returns
    -------
    Store
        The open store.
    """
    return open_store(path)
