"""Raw timestamps -> strictly increasing seconds; ticks of a resampled video against brute force."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError
from flowpipe.video import VideoParams, cut_points, open_video
from flowpipe.video.timestamps import LOOK_AHEAD, TOLERANCE_S, Ticks, Timeline


def repair(raw: list[float | None], step_s: float = 0.04) -> tuple[list[float], dict[str, int]]:
    timeline: Timeline[int] = Timeline(step_s)
    placed = list(timeline.order((time, index) for index, time in enumerate(raw)))
    assert [index for _, index in placed] == list(range(len(raw))), "frames keep their order"
    return [time for time, _ in placed], dict(timeline.notes)


def test_good_times_pass_unchanged() -> None:
    raw = [0.5, 0.54, 0.9, 0.91]
    assert repair(raw) == (raw, {})


def test_times_in_coded_order_are_sorted() -> None:
    times, notes = repair([0.04, 0.16, 0.12, 0.2, 0.28, 0.24])
    assert times == [0.04, 0.12, 0.16, 0.2, 0.24, 0.28]
    assert notes == {"pts_reordered": 4}


def test_missing_times_follow_the_rate() -> None:
    times, notes = repair([None, None, None])
    assert times == pytest.approx([0, 0.04, 0.08])
    assert notes == {"pts_missing": 3}
    times, notes = repair([1.0, None, 1.08, None])
    assert times == pytest.approx([1, 1.04, 1.08, 1.12])


def test_repeated_times_are_spread_by_quarters() -> None:
    times, notes = repair([0.0, 0.04, 0.04, 0.08])
    assert times == pytest.approx([0, 0.04, 0.05, 0.08])
    assert notes == {"pts_repeated": 1}


def test_jumps_are_closed() -> None:
    times, notes = repair([100.0, 100.04, 0.0, 0.04, 0.08])
    assert times == pytest.approx([100, 100.04, 100.08, 100.12, 100.16])
    assert notes == {"pts_jump": 1}
    times, notes = repair([0.0, 0.04, 1e9, 0.12, 0.16])
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert notes == {"pts_jump": 2}


def test_outliers_move_no_frame_behind_them() -> None:
    for outliers in ([50.0], [50.0, 50.04], [9.0, 9.5, 700.0]):
        count = 6 + len(outliers)
        raw = [k / 25 for k in range(count)]
        raw[3 : 3 + len(outliers)] = outliers
        times, notes = repair(list(raw))
        assert times == pytest.approx([k / 25 for k in range(count)])
        assert notes == {"pts_jump": 1}


@given(
    st.lists(
        st.one_of(st.none(), st.floats(0, 30), st.floats(-1e12, 1e12), st.just(5.0)), max_size=60
    )
)
def test_any_times_become_strictly_increasing(raw: list[float | None]) -> None:
    times, _ = repair(raw)
    assert all(a < b for a, b in itertools.pairwise(times))


@given(st.permutations(range(LOOK_AHEAD)), st.integers(0, 20))
def test_small_disorder_loses_no_time(order: list[int], shift: int) -> None:
    raw = [(shift + index) / 25 for index in [*order, LOOK_AHEAD, LOOK_AHEAD + 1]]
    times, _ = repair(list(raw))
    assert times == sorted(raw)


increasing = st.lists(st.integers(1, 700), min_size=1, max_size=40).map(
    lambda steps: (np.cumsum(steps) / 1000).tolist()
)


def show(times: list[float], fps: float, start_s: float, stop_s: float) -> list[tuple[float, int]]:
    """Ticks of a span by walking over `Ticks`, as (tick, frame)."""
    ticks = Ticks(times[0], fps, max(times[0], start_s))
    shown = []
    for index, time in enumerate(times):
        until = times[index + 1] if index + 1 < len(times) else time + 2 * TOLERANCE_S
        shown += [(tick, index) for tick in ticks.due(until) if start_s <= tick < stop_s]
    return shown


@given(increasing, st.floats(0.5, 120), st.lists(st.floats(0, 30), max_size=3))
def test_ticks_show_the_last_frame_that_has_come(
    times: list[float], fps: float, cuts: list[float]
) -> None:
    whole = show(times, fps, -np.inf, np.inf)
    grid = [times[0] + k / fps for k in range(int((times[-1] - times[0]) * fps) + 2)]
    want = [
        (tick, max(i for i, time in enumerate(times) if time <= tick + TOLERANCE_S))
        for tick in grid
        if tick < times[-1] + TOLERANCE_S
    ]
    assert whole == want
    edges = [-np.inf, *sorted(cuts), np.inf]
    parts = [show(times, fps, a, b) for a, b in itertools.pairwise(edges)]
    assert [tick for part in parts for tick in part] == whole
    ticks = Ticks(times[0], fps, times[0])
    ends = [*times[1:], times[-1] + 2 * TOLERANCE_S]
    seen = [
        i for i, (time, end) in enumerate(zip(times, ends, strict=True)) if ticks.shows(time, end)
    ]
    assert seen == sorted({index for _, index in whole})


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.integers(5, 400), min_size=5, max_size=30),
    st.sampled_from([5.0, 12.5, 25.0, 29.97, 60.0]),
    st.sampled_from(["mkv", "mp4"]),
)
def test_a_video_of_variable_rate_is_resampled_by_time(
    tmp_path: Path, steps: list[int], fps: float, container: str
) -> None:
    times = 3 + np.cumsum(steps) / 1000
    frames = np.zeros((len(times), 32, 48, 3), np.uint8)
    frames[:] = (8 * np.arange(len(times), dtype=np.uint8))[:, None, None, None]
    codec = {"codec": "ffv1"} if container == "mkv" else {"codec": "libx264", "qp": 0}
    path = encode_video(tmp_path / f"clip.{container}", frames, pts_s=times, **codec)
    with open_video(path, VideoParams(fps=fps)) as reader:
        windows = list(reader.windows(5))
    ticks = np.concatenate([w.pts_s for w in windows])
    shown = np.round(np.concatenate([w.data for w in windows])[:, 5, 5, 0] / 8).astype(int)
    origin = times[0]
    want = origin + np.arange(int((times[-1] + TOLERANCE_S - origin) * fps) + 1) / fps
    np.testing.assert_allclose(ticks, want, atol=1e-3)
    last = np.searchsorted(times, ticks + TOLERANCE_S + 1e-6, side="right") - 1
    near = np.abs(ticks[:, None] + TOLERANCE_S - times).min(axis=1) < 1e-4  # encoder's rounding
    assert ((shown == last) | near).all()
    facts = reader.facts
    assert facts.frames_decoded == len(times)
    assert facts.frames_dropped == len(times) - len(set(shown.tolist()))
    assert facts.fps_out == fps


@pytest.mark.parametrize("container", ["mkv", "mp4", "avi"])
@pytest.mark.parametrize("fps", [30, 30000 / 1001, 24])
def test_the_own_rate_keeps_every_frame(container: str, fps: float, tmp_path: Path) -> None:
    path = encode_video(tmp_path / f"clip.{container}", moving_clip(90, 32, 48), fps, "mpeg4")
    with open_video(path, VideoParams(fps=fps)) as reader:
        assert sum(len(w.data) for w in reader.windows()) == 90
    assert reader.facts.frames_dropped == 0


def test_a_slower_rate_drops_frames_and_a_faster_one_repeats_them(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(50, 32, 48), fps=25)
    for fps, count, dropped in ((5, 10, 40), (50, 99, 0)):
        with open_video(path, VideoParams(fps=fps)) as reader:
            windows = list(reader.windows(1000))
        assert len(windows[0].data) == count
        assert reader.facts.frames_dropped == dropped
        np.testing.assert_allclose(windows[0].pts_s, np.arange(count) / fps)
    assert (windows[0].data[1] == windows[0].data[0]).all()


def test_a_video_without_times_gets_those_of_its_rate(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.h264", moving_clip(30), fps=25)
    with open_video(path) as reader:
        times = np.concatenate([w.pts_s for w in reader.windows()])
    np.testing.assert_allclose(times, np.arange(30) / 25)
    assert "pts_missing:30" in reader.facts.notes
    assert cut_points(path, 0.2) == ()
    with open_video(path, VideoParams(fps=10)) as reader:
        with pytest.raises(DecodeError, match="set fps to 0") as caught:
            list(reader.windows())
    assert caught.value.reason == "timestamps"


def without_times(source: Path, target: Path, count: int) -> Path:
    """Clear the timestamps of the first packets of a transport stream."""
    data = bytearray(source.read_bytes())
    for at in range(0, len(data), 188):
        start = data.find(b"\0\0\1\xe0", at, at + 188)
        if count and data[at + 1] & 0x40 and start > 0:
            length = data[start + 8]
            data[start + 7] &= 0x3F
            data[start + 9 : start + 9 + length] = b"\xff" * length
            count -= 1
    target.write_bytes(data)
    return target


def test_times_before_the_first_timestamp_are_counted_back(tmp_path: Path) -> None:
    whole = encode_video(tmp_path / "a.ts", moving_clip(60), fps=25, b_frames=2)
    path = without_times(whole, tmp_path / "b.ts", 8)
    with open_video(whole) as reader:
        want = np.concatenate([w.pts_s for w in reader.windows()])
    for fps in (0, 25):
        with open_video(path, VideoParams(fps=fps)) as reader:
            times = np.concatenate([w.pts_s for w in reader.windows()])
        np.testing.assert_allclose(times, want, atol=1e-6)
        assert reader.facts.start_s == pytest.approx(want[0])
    assert "pts_missing:8" in reader.facts.notes


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_long_silences_and_late_starts_stay(container: str, tmp_path: Path) -> None:
    for name, times in {
        "sparse": [0.0, 7200.0, 14400.0, 21600.0],
        "late": [100_000.0, 100_000.04, 100_000.08],
    }.items():
        path = encode_video(
            tmp_path / f"{name}.{container}", moving_clip(len(times)), codec="libx264", pts_s=times
        )
        with open_video(path) as reader:
            ours = np.concatenate([w.pts_s for w in reader.windows()])
        np.testing.assert_allclose(ours, times, atol=2e-3)
        notes = {note.split(":")[0] for note in reader.facts.notes}
        assert not {"pts_jump", "shorter_than_declared"} & notes


def test_silences_are_believed_up_to_the_declared_end() -> None:
    timeline: Timeline[int] = Timeline(0.04, declared_end_s=8000.0)
    placed = [time for time, _ in timeline.order((t, 0) for t in (0.0, 7200.0, 1e9))]
    assert placed == pytest.approx([0.0, 7200.0, 7200.04])
    assert timeline.notes == {"pts_jump": 1}
