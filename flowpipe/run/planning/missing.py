"""Plan + quarantine -> the videos that are missing or unusable, and ``STORE/missing.txt``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowpipe.atomic import write_atomic
from flowpipe.datasets.dataset import SkippedFiles
from flowpipe.errors import REASONS, UnwritableError, UsageError
from flowpipe.run.planning.plan import Plan
from flowpipe.run.planning.spans import ABSENT
from flowpipe.types import Outcome
from flowpipe.words import count_noun, escape_control, list_some

FILE_NAME = "missing.txt"
_SHOWN = 5


@dataclass(frozen=True)
class MissingVideos:
    """Videos of a data set that are missing, unlisted or unreadable."""

    absent: tuple[str, ...] = ()
    """Ids of listed videos that have no file and are not in the store, sorted."""
    unlisted: tuple[str, ...] = ()
    """Paths of videos that no list names; they are not extracted."""
    unreadable: tuple[Outcome, ...] = ()
    """Outcomes of videos whose file exists but cannot be used."""
    left_out: tuple[SkippedFiles, ...] = ()
    """Files in the folder that are not videos, by kind."""
    looked_for: Mapping[str, str] = field(default_factory=dict)
    """Where absent videos were searched for, by id, if the data set says so."""

    @classmethod
    def from_plan(cls, plan: Plan) -> MissingVideos:
        """Collect the missing videos that the data set and the plan found before decoding.

        Parameters
        ----------
        plan : Plan
            Plan with a job.

        Returns
        -------
        MissingVideos
            Videos without a file, unlisted videos and unusable files.
        """
        dataset = plan.planned_job.dataset
        gone = {o.video_id for o in plan.unusable if o.reason == ABSENT}
        looked_for = {}
        if gone and dataset.explain is not None:
            explain = dataset.explain
            looked_for = {r.video_id: explain(r) for r in dataset.records if r.video_id in gone}
        absent = gone.union(r.video_id for r in dataset.absent) - plan.changes.gone
        unreadable = tuple(o for o in plan.unusable if o.reason != ABSENT)
        return cls(
            tuple(sorted(absent)), dataset.unlisted, unreadable, dataset.left_out, looked_for
        )

    def add_failed(self, outcomes: Iterable[Outcome]) -> MissingVideos:
        """Return a copy that includes the videos that failed in a run.

        Parameters
        ----------
        outcomes : iterable of Outcome
            Outcomes of the failed videos.

        Returns
        -------
        MissingVideos
            Unreadable videos sorted by id, the later outcome of each.
        """
        known = {o.video_id: o for o in (*self.unreadable, *outcomes)}
        return replace(self, unreadable=tuple(known[key] for key in sorted(known)))

    def lines(self) -> list[str]:
        """Return one line per video, ``problem<tab>video[<tab>explanation]``."""
        return [
            *(
                "\t".join(filter(None, ("absent", video_id, self.looked_for.get(video_id))))
                for video_id in self.absent
            ),
            *(f"unlisted\t{path}" for path in self.unlisted),
            *(
                f"left_out\t{one.count} {one.kind}\t{', '.join(one.first)}"
                f"{', ...' if one.count > len(one.first) else ''}"
                for one in self.left_out
            ),
            *(f"{o.reason}\t{o.video_id}\t{' '.join(o.message.split())}" for o in self.unreadable),
        ]

    def summary(self) -> list[str]:
        """Return one sentence per problem that occurs, with the first few videos."""
        reasons = Counter(outcome.reason for outcome in self.unreadable)
        why = "; ".join(f"{count} x {REASONS[reason]}" for reason, count in reasons.most_common())
        kinds = (
            ("listed but absent", self.absent),
            ("present but not listed, so not extracted", self.unlisted),
            (f"unreadable ({why})", tuple(o.video_id for o in self.unreadable)),
        )
        sentences = [
            f"{count_noun(len(names), 'video')} {kind}: {list_some(names, _SHOWN)}"
            for kind, names in kinds
            if names
        ]
        shown = [self.looked_for[key] for key in self.absent if key in self.looked_for][:_SHOWN]
        return sentences[:1] + [f"  {line}" for line in shown] + sentences[1:]

    def write(self, store: Path) -> None:
        """Write all lines to ``STORE/missing.txt``, or remove the file if there are none.

        Parameters
        ----------
        store : Path
            Folder of the store; it is made if it does not exist.

        Raises
        ------
        UnwritableError, DiskFullError
            If the file cannot be written.
        """
        path, lines = store / FILE_NAME, self.lines()
        if not lines:
            path.unlink(missing_ok=True)
            return
        try:
            store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableError(f"{store} cannot be made: {error}") from error
        text = "".join(f"{escape_control(line)}\n" for line in lines)
        write_atomic(path, text.encode(), "list of missing videos")


class AbsentVideosError(UsageError):
    """Videos of the data set have no file, and the job does not allow it."""

    missing: MissingVideos
    """The absent videos, if `from_missing` made the error."""

    @classmethod
    def from_missing(cls, missing: MissingVideos) -> AbsentVideosError:
        """Return the error about some videos.

        Parameters
        ----------
        missing : MissingVideos
            The absent videos.

        Returns
        -------
        AbsentVideosError
            Error that names their number; `missing` has them.
        """
        error = cls(
            f"{count_noun(len(missing.absent), 'video')} of the data set cannot be found; "
            "fetch them, or add --allow-missing to extract the others: ids and labels stay the same"
        )
        error.missing = missing
        return error
