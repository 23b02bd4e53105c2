"""Plans: every span once, balanced shards, and the same plan for the same files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from videofile import encode_video, moving_clip

from flowpipe.errors import UsageError
from flowpipe.run.planning import sample, spans
from flowpipe.run.planning.costs import Rates, Resources
from flowpipe.run.planning.plan import HeaderSample, make_plan
from flowpipe.run.planning.sample import probe_sample
from flowpipe.run.planning.spans import LEAST_BYTES_PER_S, make_spans, part_of, shard_name
from flowpipe.types import Span, VideoRecord

SAMPLE = HeaderSample(1 / 4000, 256, 340)


def span(name: str, part: int = 0, parts: int = 1) -> Span:
    return Span(VideoRecord(name, f"/nowhere/{name}"), part, parts)


def test_absent_and_empty_files_are_refused_without_decoding(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "some.mp4").write_bytes(b"12345")
    records = [VideoRecord(n, str(tmp_path / f"{n}.mp4")) for n in ("gone", "empty", "some")]
    spans, unusable = make_spans(records, split_s=300)
    assert [(s.record.video_id, size) for s, size in spans] == [("some", 5)]
    assert [(o.video_id, o.status, o.reason) for o in unusable] == [
        ("gone", "failed", "missing"),
        ("empty", "failed", "empty"),
    ]


def test_a_folder_or_a_pipe_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    records = [VideoRecord(n, str(tmp_path / f"{n}.mp4")) for n in ("folder", "pipe")]
    spans, unusable = make_spans(records, split_s=300)
    assert not spans
    assert {o.reason for o in unusable} == {"unreadable"}


@given(
    sizes=st.lists(st.integers(1, 10**9), min_size=1, max_size=60),
    workers=st.integers(1, 64),
    frame_ms=st.floats(0.1, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_span_is_planned_once(sizes: list[int], workers: int, frame_ms: float) -> None:
    spans = [(span(f"v{k}"), size) for k, size in enumerate(sizes)]
    rates = Rates(frame_s=frame_ms / 1e3, frame_bytes=40_000)
    plan = make_plan(spans, (), SAMPLE, Resources(rates=rates, workers=workers))
    planned = [s.record.video_id for shard in plan.shards for s in shard.spans]
    assert sorted(planned) == sorted(s.record.video_id for s, _ in spans)
    assert len({shard.name for shard in plan.shards}) == len(plan.shards)
    costs = [shard.cost_s for shard in plan.shards]
    assert costs == sorted(costs, reverse=True)
    assert sum(costs) == pytest.approx(plan.cost_s)


def test_finished_and_quarantined_spans_are_left_out() -> None:
    spans = [(span(f"v{k}"), 100) for k in range(10)]
    plan = make_plan(
        spans, (), SAMPLE, Resources(rates=Rates(frame_s=0.01, frame_bytes=1000), workers=2),
        done={("v1", 0, 1), ("v2", 0, 1)}, quarantined={("v3", 0, 1)},
    )  # fmt: skip
    assert (plan.done, plan.quarantined, plan.spans) == (2, 1, 7)


def test_videos_are_counted_and_not_their_parts() -> None:
    spans = [(Span(VideoRecord(f"v{k}", ""), part, 3), 10) for k in range(3) for part in range(3)]
    plan = make_plan(
        spans, (), SAMPLE, Resources(rates=Rates(frame_s=0.01, frame_bytes=1000), workers=1),
        done={("v0", part, 3) for part in range(3)} | {("v1", 1, 3), ("v2", 0, 3)},
        quarantined={("v2", 1, 3), ("v2", 2, 3)},
    )  # fmt: skip
    assert (plan.done, plan.quarantined, plan.videos, plan.spans) == (1, 1, 1, 2)


def test_shards_get_smaller_with_more_workers_down_to_a_limit() -> None:
    spans = [(span(f"v{k}"), 400_000) for k in range(400)]
    few = make_plan(
        spans, (), SAMPLE, Resources(rates=Rates(frame_s=0.02, frame_bytes=36_000), workers=1)
    )
    many = make_plan(
        spans, (), SAMPLE, Resources(rates=Rates(frame_s=0.02, frame_bytes=36_000), workers=16)
    )
    assert len(few.shards) < len(many.shards) < len(spans)


def test_the_name_of_a_shard_depends_on_its_content() -> None:
    a, b = span("a"), span("b")
    assert shard_name([a.key, b.key]) == shard_name([span("a").key, span("b").key])
    groups = ([a], [b], [a, b], [span("a", 0, 2)])
    assert len({shard_name(s.key for s in group) for group in groups}) == 4
    # An id is text, never a path.
    assert "/" not in shard_name([span("../../etc/passwd").key])


@given(count=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_the_parts_of_array_jobs_cover_everything_once(count: int) -> None:
    spans = [span(f"v{k}", part, 3) for k in range(40) for part in range(3)]
    chosen = [s for index in range(1, count + 1) for s in part_of(spans, index, count)]
    assert len(chosen) == len(spans)
    assert {id(s) for s in chosen} == {id(s) for s in spans}


def test_a_share_does_not_move_when_videos_are_added() -> None:
    before = [span(f"v{k}") for k in range(20)]
    after = [span("new"), *before]
    assert {s.record.video_id for s in part_of(before, 2, 4)} <= {
        s.record.video_id for s in part_of(after, 2, 4)
    }


@pytest.mark.parametrize("index, count", [(0, 2), (3, 2), (-1, 2)])
def test_impossible_shares_are_refused(index: int, count: int) -> None:
    with pytest.raises(UsageError, match="--part"):
        part_of([span("a")], index, count)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds with a keyframe every ten frames, long enough to be cut for these tests."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    encode_video(path, moving_clip(75, 48, 64), gop=10)
    return path


SPLIT_S = 0.5


def test_a_broken_file_does_not_stop_the_planning_of_others(clip: Path, tmp_path: Path) -> None:
    whole = clip.read_bytes()
    assert len(whole) > SPLIT_S * LEAST_BYTES_PER_S
    for name, content in {
        "zeros": bytes(len(whole)), "text": b"no video\n" * 2000, "headless": whole[5000:],
        "tailless": whole[: len(whole) // 2], "mp4": b"\0\0\0\x18ftypmp42" + bytes(9000),
        "riff": b"RIFF\xff\xff\xff\x7fAVI LIST" + bytes(9000), "h264": b"\0\0\0\1\x67" * 4000,
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    (tmp_path / "pipe").mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    records = [VideoRecord(name, str(tmp_path / name)) for name in (*names, "nowhere", "nul\0")]
    records.insert(3, VideoRecord("clip", str(clip)))
    spans, unusable = make_spans(records, split_s=SPLIT_S)
    assert {o.video_id for o in unusable} == {"pipe", "nowhere", "nul\0"}
    parts = Counter(s.record.video_id for s, _ in spans)
    assert parts.keys() == {"clip", *names} - {"pipe"} and parts["clip"] > 2
    assert set(parts[name] for name in names) <= {0, 1}
    sample = probe_sample([record.path for record in records], fps=0)
    assert (sample.height, sample.width) == (48, 64)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_damage_of_a_file_stops_planning(clip: Path, data: st.DataObject) -> None:
    content = bytearray(clip.read_bytes())
    places = data.draw(st.lists(st.integers(0, len(content) - 1), max_size=20))
    for at in places:
        content[at] = data.draw(st.integers(0, 255))
    damaged = clip.with_name("damaged.mp4")
    damaged.write_bytes(content[: data.draw(st.integers(5000, len(content)))])
    spans, unusable = make_spans([VideoRecord("v", str(damaged))], split_s=SPLIT_S)
    assert not unusable and {s.key[2] for s, _ in spans} == {len(spans)}
    probe_sample([str(damaged)], fps=25)


@pytest.mark.parametrize("error", [ValueError, IndexError, RecursionError, MemoryError])
def test_a_file_that_breaks_its_demuxer_is_left_to_its_worker(
    error: type[Exception], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("of one file")

    monkeypatch.setattr(spans, "cut_points", fail)
    monkeypatch.setattr(sample, "probe", fail)
    ((planned, _),), unusable = make_spans([VideoRecord("v", str(clip))], split_s=SPLIT_S)
    assert planned.key == ("v", 0, 1) and not unusable
    assert probe_sample([str(clip)], fps=0) == SAMPLE
