"""What a loader gives: the videos of a data set, its class names, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowpipe.types import VideoRecord


@dataclass(frozen=True)
class Dataset:
    """A data set as found on disk."""

    name: str
    class_names: tuple[str, ...]
    """Index = the labels of the records and of their segments."""
    records: Sequence[VideoRecord]
    """In a fixed order; ids are unique."""
    missing: tuple[str, ...] = ()
    """Ids that the annotations name and that were not found, sorted."""
    note: str = ""
    """What a user should know of this copy, in whole sentences; empty if there is nothing."""


@dataclass(frozen=True)
class DatasetRow:
    """One row of the table: how to read one kind of data set."""

    name: str
    summary: str
    """What it is and how it must lie, in a line."""
    load: Callable[..., Dataset]
    """``load(root: Path, **options) -> Dataset``; options are keyword-only and documented there."""
    made: bool = False
    """Whether `load` makes the videos where they are not there yet; it then takes ``progress``."""
