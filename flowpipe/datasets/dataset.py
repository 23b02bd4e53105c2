"""What a loader gives: the videos of a data set, its class names, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from flowpipe.errors import DatasetError
from flowpipe.types import VideoRecord


@dataclass(frozen=True)
class Dataset:
    """A data set as found on disk."""

    name: str
    class_names: tuple[str, ...]
    """Index = the labels of the records and of their segments; never depends on which videos are
    there."""
    records: Sequence[VideoRecord]
    """In a fixed order; ids are unique."""
    absent: Sequence[VideoRecord] = ()
    """Videos that the official lists name and that have no file; their path is empty."""
    unlisted: tuple[str, ...] = ()
    """Paths of videos that lie there and that no official list names, sorted."""
    note: str = ""
    """What a user should know of this copy, in whole sentences; empty if there is nothing."""

    @classmethod
    def of_listed(
        cls,
        name: str,
        class_names: tuple[str, ...],
        listed: Iterable[VideoRecord],
        unlisted: tuple[str, ...] = (),
        note: str = "",
    ) -> Dataset:
        """Tell the videos that are there from those whose path is empty."""
        there: list[VideoRecord] = []
        absent: list[VideoRecord] = []
        for record in listed:
            (there if record.path else absent).append(record)
        return cls(name, class_names, tuple(there), tuple(absent), unlisted, note)

    def noting(self, note: str) -> Dataset:
        """The same with a note."""
        return replace(self, note=note)

    def only(self, parts: Collection[str]) -> Dataset:
        """The videos of some subsets (``validation``) or splits (``train1``), absent ones likewise.

        Raises
        ------
        DatasetError
            If no video is of one of these parts; the message names those that there are.
        """
        known: dict[str, None] = {}
        for record in (*self.records, *self.absent):
            known.update(dict.fromkeys(name for name in (record.subset, *record.splits) if name))
        strange = [part for part in parts if part not in known]
        if strange or not parts:
            raise DatasetError(
                f"no video of {self.name} is of the subset or split {', '.join(strange)}; "
                f"there are: {', '.join(sorted(known)) or 'none'}"
            )
        chosen = set(parts)

        def of_parts(records: Sequence[VideoRecord]) -> tuple[VideoRecord, ...]:
            return tuple(r for r in records if r.subset in chosen or chosen.intersection(r.splits))

        return replace(self, records=of_parts(self.records), absent=of_parts(self.absent))


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
    options: tuple[str, ...] = ()
    """Which of these `load` takes: ``annotations``, the file or folder of the official lists where
    they do not lie below the root; ``class_names``, a file that fixes the order of the classes."""
