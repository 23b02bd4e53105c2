"""Dataset, the result of every loader: videos, class names and missing files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

from flowpipe.errors import DatasetError
from flowpipe.types import VideoRecord
from flowpipe.words import unknown_name

_FIRST, _KINDS = 5, 8


@dataclass(frozen=True)
class SkippedFiles:
    """Files of one kind in a folder of videos that are not videos."""

    kind: str
    """Extension, or another common property such as ``hidden (folder)``."""
    count: int
    first: tuple[str, ...]
    """Relative paths of the first few files."""

    @classmethod
    def by_kind(cls, files: Iterable[tuple[str, str]]) -> tuple[SkippedFiles, ...]:
        """Group files by kind.

        Parameters
        ----------
        files : iterable of (kind, path)
            Files that are no videos.

        Returns
        -------
        tuple of SkippedFiles
            Kinds, the most frequent first.
        """
        counts: Counter[str] = Counter()
        first: dict[str, list[str]] = {}
        for kind, path in files:
            counts[kind] += 1
            shown = first.setdefault(kind, [])
            if len(shown) < _FIRST:
                shown.append(path)
        return tuple(cls(kind, n, tuple(first[kind])) for kind, n in counts.most_common())

    @staticmethod
    def words(left_out: Sequence[SkippedFiles]) -> str:
        """Describe the counts, such as ``3 .txt, 2 .jpg``.

        Parameters
        ----------
        left_out : sequence of SkippedFiles
            Kinds of files.

        Returns
        -------
        str
            Text; empty if there are no files.
        """
        shown = [f"{one.count} {one.kind}" for one in left_out[:_KINDS]]
        rest = sum(one.count for one in left_out[_KINDS:])
        return ", ".join([*shown, *([f"{rest} of other kinds"] if rest else [])])


@dataclass(frozen=True)
class Dataset:
    """Videos of a data set, as found on disk."""

    name: str
    class_names: tuple[str, ...]
    """Name of each label of records and segments. It does not depend on which videos exist."""
    records: Sequence[VideoRecord]
    """Videos that exist, in a fixed order; their ids are unique."""
    _: KW_ONLY
    absent: Sequence[VideoRecord] = ()
    """Videos that the official lists name but that have no file; their path is empty."""
    unlisted: tuple[str, ...] = ()
    """Paths of existing videos that no official list names, sorted."""
    left_out: tuple[SkippedFiles, ...] = ()
    """Files in the folder that are not videos, by kind."""
    listed_frames: Mapping[str, int] = field(default_factory=dict)
    """Frame count in the list file, by video id."""
    durations_s: Mapping[str, float] = field(default_factory=dict)
    """Duration in the annotations, seconds, by video id."""
    note: str = ""
    """Sentences about this copy that are printed for the user; may be empty."""
    explain: Callable[[VideoRecord], str] | None = None
    """Returns which line names an absent video and which path was searched for."""

    @classmethod
    def from_listed(
        cls,
        name: str,
        class_names: tuple[str, ...],
        listed: Iterable[VideoRecord],
        unlisted: tuple[str, ...] = (),
        note: str = "",
    ) -> Dataset:
        """Make a data set from listed videos.

        Parameters
        ----------
        name : str
            Name of the data set.
        class_names : tuple of str
            Names of the classes, by label.
        listed : iterable of VideoRecord
            Videos of the lists; those with an empty path are absent.
        unlisted : tuple of str
            Paths of videos that no list names.
        note : str
            Note for the user.

        Returns
        -------
        Dataset
            The data set.
        """
        there: list[VideoRecord] = []
        absent: list[VideoRecord] = []
        for record in listed:
            (there if record.path else absent).append(record)
        return cls(
            name, class_names, tuple(there), absent=tuple(absent), unlisted=unlisted, note=note
        )

    def with_note(self, note: str) -> Dataset:
        """Return a copy with another note.

        Parameters
        ----------
        note : str
            The note.

        Returns
        -------
        Dataset
            The copy.
        """
        return replace(self, note=note)

    def select(self, parts: Collection[str]) -> Dataset:
        """Return the videos of some subsets or splits.

        Parameters
        ----------
        parts : collection of str
            Subsets (``validation``) or splits (``train1``).

        Returns
        -------
        Dataset
            Data set of these videos.

        Raises
        ------
        DatasetError
            If one of the parts has no video; the message has the nearest part that exists, or all.
        """
        known: dict[str, None] = {}
        for record in (*self.records, *self.absent):
            known.update(dict.fromkeys(name for name in (record.subset, *record.splits) if name))
        strange = [part for part in parts if part not in known]
        if not known:
            raise DatasetError(
                "--only selects subsets or splits, and these videos have none; leave --only out, "
                "or list the videos in a CSV with a column split or subset"
            )
        if not parts:
            raise DatasetError(f"no subset or split is named; known: {', '.join(sorted(known))}")
        if strange:
            raise DatasetError(
                f"{self.name}: {unknown_name('subset or split', strange[0], sorted(known))}"
            )
        chosen = set(parts)

        def of_parts(records: Sequence[VideoRecord]) -> tuple[VideoRecord, ...]:
            return tuple(r for r in records if r.subset in chosen or chosen.intersection(r.splits))

        return replace(self, records=of_parts(self.records), absent=of_parts(self.absent))


@dataclass(frozen=True)
class PublishedTest:
    """Protocol by which papers test on a data set."""

    protocol: str = "accuracy"
    """Evaluation protocol, a key of `flowpipe.evaluation.PROTOCOLS`."""
    detection: str = "activitynet-detection"
    """Evaluation protocol of temporal detections, a key of
    `flowpipe.evaluation.detection_protocols.DETECTION_PROTOCOLS`."""
    videos: Mapping[str, int] = field(default_factory=dict)
    """Number of videos behind the published figures, by split."""


@dataclass(frozen=True)
class DatasetRow:
    """One row of `DATASETS`: how to read and to evaluate one kind of data set."""

    name: str
    summary: str
    """One-line description of the data set and its files."""
    load: Callable[..., Dataset]
    """``load(root: Path, **options) -> Dataset`` with keyword-only options."""
    _: KW_ONLY
    made: bool = False
    """True if `load` generates missing videos; it then accepts ``progress``."""
    own: bool = False
    """True if the data set has no official splits, so that `splits_of_own` may add some."""
    options: tuple[str, ...] = ()
    """Options of `load`: ``annotations``, the file or folder of the official lists;
    ``class_names``, a file with the class names in order; ``base``, the folder that relative
    paths of a list start at."""
    is_file: bool = False
    """True if the root is a file; else it is a folder."""
    test: PublishedTest = PublishedTest()
