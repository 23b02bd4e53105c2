"""A data set, a plan and a quarantine -> what is not there or not usable: said once, completely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowpipe.atomic import write_atomic
from flowpipe.cli.screen import harmless, say
from flowpipe.datasets import Dataset
from flowpipe.datasets.dataset import LeftOut
from flowpipe.errors import REASONS, UnwritableError
from flowpipe.run import ABSENT, Plan
from flowpipe.types import Outcome
from flowpipe.words import count_noun, list_some

FILE_NAME = "missing.txt"
_SHOWN = 5


@dataclass(frozen=True)
class Missing:
    """What separates a data set from what of it can be extracted."""

    absent: tuple[str, ...]
    """Ids of videos that are listed and have no file."""
    unlisted: tuple[str, ...]
    """Paths of videos that are there and listed nowhere; they are not extracted."""
    unreadable: tuple[Outcome, ...]
    """Videos whose file is there and cannot be used."""
    left_out: tuple[LeftOut, ...] = ()
    """Files of a folder that are no videos, by kind."""
    looked_for: Mapping[str, str] = field(default_factory=dict)
    """Where absent videos were looked for, by id, as far as the data set says it."""

    @classmethod
    def of(cls, dataset: Dataset, plan: Plan) -> Missing:
        """What the data set and the plan found before anything was decoded."""
        gone = {o.video_id for o in plan.unusable if o.reason == ABSENT}
        absent = sorted(gone.union(r.video_id for r in dataset.absent) - plan.changes.gone)
        unreadable = tuple(o for o in plan.unusable if o.reason != ABSENT)
        looked_for = {}
        if gone and dataset.explain is not None:
            explain = dataset.explain
            looked_for = {r.video_id: explain(r) for r in dataset.records if r.video_id in gone}
        return cls(tuple(absent), dataset.unlisted, unreadable, dataset.left_out, looked_for)

    def and_failed(self, outcomes: Iterable[Outcome]) -> Missing:
        """The same with the videos that turned out to be unreadable in a run."""
        known = {o.video_id: o for o in (*self.unreadable, *outcomes)}
        return replace(self, unreadable=tuple(known[key] for key in sorted(known)))

    def lines(self) -> list[str]:
        """A line for each: what is wrong, a tab, the video, and a reason where there is one."""
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
        """One sentence for each kind that there is, with the first few."""
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

    def report(self, store: Path) -> None:
        """Say it on the screen and list all of it in ``STORE/missing.txt``, or remove that file."""
        path, lines = store / FILE_NAME, self.lines()
        if not lines:
            path.unlink(missing_ok=True)
            return
        try:
            store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableError(f"no store can be made at {store}: {error}") from error
        text = "".join(f"{harmless(line)}\n" for line in lines)
        write_atomic(path, text.encode(), "list of missing videos")
        sentences = self.summary()
        for sentence in sentences:
            say(sentence)
        if sentences:
            say(f"all of them: {path}")
