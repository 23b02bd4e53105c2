"""Progress of a run: it counts finished videos, also those of unfinished shards."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from flowpipe.cli import extraction_progress, screen
from flowpipe.cli.extraction_progress import ExtractionDisplay
from flowpipe.run import Summary
from flowpipe.run.planning.costs import Rates, Resources
from flowpipe.run.planning.plan import Plan, ShardPlan
from flowpipe.run.progress import RunProgress
from flowpipe.types import Outcome, Span, VideoRecord
from flowpipe.words import duration


@pytest.fixture(autouse=True)
def every_update(monkeypatch):
    monkeypatch.setattr(extraction_progress, "LOG_EVERY_S", -1.0)


def plan_of(*parts: int) -> Plan:
    """One shard with a video for each number of parts."""
    spans = tuple(
        Span(VideoRecord(f"v{k}", f"v{k}.mp4"), part, count)
        for k, count in enumerate(parts)
        for part in range(count)
    )
    frames, rates = 10.0 * len(spans), Rates(frame_s=0.1, frame_bytes=0.1)
    return Plan(
        shards=(ShardPlan("a", spans, 1.0, 1.0),),
        unusable=(),
        done=0,
        quarantined=0,
        frames=frames,
        cost_s=1.0,
        bytes=1.0,
        resources=Resources(rates=rates),
    )


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    """The console that commands print on."""
    console = Console(file=StringIO(), width=200)
    for module in (screen, extraction_progress):
        monkeypatch.setattr(module, "stderr", lambda: console)
    return console


def last(console: Console) -> str:
    return console.file.getvalue().splitlines()[-1]


def test_finished_videos_of_unfinished_shards_are_counted(console: Console):
    plan = plan_of(1, 3, 1)
    spans = plan.shards[0].spans
    with ExtractionDisplay() as display:
        shown = RunProgress(plan, display)
        shown.underway(5, ())
        assert "0/3 videos" in last(console)
        shown.underway(10, spans[:1])
        assert "1/3 videos" in last(console)
        shown.underway(30, spans[:3])  # two of three parts
        assert "1/3 videos" in last(console)
        shown.underway(40, spans[:4])
        assert "2/3 videos" in last(console)
        for span in spans[:4]:
            shown.outcome(
                Outcome(span.record.video_id, "done", path="", part=span.part, parts=span.parts)
            )
        shown.underway(45, ())
        assert "2/3 videos" in last(console)
        shown.outcome(Outcome("v2", "failed", reason="corrupt", message="v2.mp4: broken"))
        assert "3/3 videos" in last(console) and "1 failed" in last(console)


def test_a_video_counts_when_its_last_part_is_done(console: Console):
    whole = plan_of(3, 1)
    shard = replace(whole.shards[0], spans=whole.shards[0].spans[1:])  # one of three was there
    plan = replace(whole, shards=(shard,))
    assert (plan.spans, plan.videos, dict(plan.split)) == (3, 2, {"v0": 2})
    summary = Summary(parts=plan.split)
    with ExtractionDisplay() as display:
        shown = RunProgress(plan, display)
        for part, videos in ((1, 0), (2, 1)):
            outcome = Outcome("v0", "done", path="", part=part, parts=3)
            shown.outcome(outcome)
            summary.add(outcome)
            assert f"{videos}/2 videos" in last(console)
            assert summary.counts["done"] == videos


def test_quiet_prints_only_failures(console: Console):
    plan = plan_of(1, 1)
    with ExtractionDisplay(quiet=True) as display:
        shown = RunProgress(plan, display)
        shown.underway(5, plan.shards[0].spans[:1])
        shown.outcome(Outcome("v0", "done"))
        shown.outcome(Outcome("v1", "failed", reason="corrupt", message="v1.mp4: broken"))
    assert console.file.getvalue() == "[failed] v1: corrupt: v1.mp4: broken\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (29, "29 s"), (61, "1 min"), (7100, "118 min"), (9e3, "2.5 h")],
)
def test_time_left_has_a_unit_that_suits_it(seconds: float, text: str):
    assert duration(seconds) == text
