"""What a loader gives: the videos of a data set, its class names, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flowpipe.errors import DatasetError
from flowpipe.types import VideoRecord
from flowpipe.words import did_you_mean

_FIRST, _KINDS = 5, 8


@dataclass(frozen=True)
class LeftOut:
    """Files of one kind that lie in a folder of videos and are not taken."""

    kind: str
    """Extension, or what else they have in common."""
    count: int
    first: tuple[str, ...]
    """Relative paths of the first few."""

    @classmethod
    def by_kind(cls, files: Iterable[tuple[str, str]]) -> tuple[LeftOut, ...]:
        """Count (kind, path) pairs; the most frequent kind comes first."""
        counts: Counter[str] = Counter()
        first: dict[str, list[str]] = {}
        for kind, path in files:
            counts[kind] += 1
            shown = first.setdefault(kind, [])
            if len(shown) < _FIRST:
                shown.append(path)
        return tuple(cls(kind, n, tuple(first[kind])) for kind, n in counts.most_common())

    @staticmethod
    def words(left_out: Sequence[LeftOut]) -> str:
        """Return the counts in words, as ``3 .txt, 2 .jpg``; empty if there is nothing."""
        shown = [f"{one.count} {one.kind}" for one in left_out[:_KINDS]]
        rest = sum(one.count for one in left_out[_KINDS:])
        return ", ".join([*shown, *([f"{rest} of other kinds"] if rest else [])])


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
    left_out: tuple[LeftOut, ...] = ()
    """Files of a folder that are no videos, by kind."""
    listed_frames: Mapping[str, int] = field(default_factory=dict)
    """Frame counts that a list file states, by video id."""
    note: str = ""
    """What a user should know of this copy, in whole sentences; empty if there is nothing."""
    explain: Callable[[VideoRecord], str] | None = None
    """Says of a video that is not there which line names it and which path was looked for."""

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
        return cls(name, class_names, tuple(there), tuple(absent), unlisted, note=note)

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
        if not known:
            raise DatasetError(
                "--only chooses among the subsets and splits of a data set, and these videos have "
                "none; leave --only out, or list the videos in a CSV with a column split or subset"
            )
        if strange or not parts:
            hint = did_you_mean(strange[0], known, listed="") if strange else ""
            raise DatasetError(
                f"no video of {self.name} is of the subset or split {', '.join(strange)}; {hint}"
                f"{' ' if hint else ''}there are: {', '.join(sorted(known))}"
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
    own: bool = False
    """Whether the data set has no official splits, so that `flowpipe.datasets.splits_of_own` may
    give it some."""
    options: tuple[str, ...] = ()
    """Which of these `load` takes: ``annotations``, the file or folder of the official lists where
    they do not lie below the root; ``class_names``, a file that fixes the order of the classes;
    ``base``, the folder that relative paths of a list start at."""
