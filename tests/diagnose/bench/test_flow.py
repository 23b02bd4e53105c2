"""`bench flow`: pairs of videos or generated ones; every row finds a known motion."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from synth import translated_pair
from videofile import encode_video

from flowpipe.datasets import demo
from flowpipe.diagnose.bench import (
    PEER,
    Meter,
    Pairs,
    endpoint_px,
    find_refusals,
    flow_candidates,
    render_pairs,
    use_one_core,
    video_pairs,
)
from flowpipe.errors import DatasetError, DecodeError
from flowpipe.flow.tvl1 import VARIANTS

ROWS = {row.name: row for row in flow_candidates()}
REFUSED = find_refusals(ROWS.values())


def number_frames(count: int, height: int = 32, width: int = 32) -> np.ndarray:
    """Frame k is gray of level 4 k."""
    levels = 4 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(gray: np.ndarray) -> list[int]:
    return [round(float(image.mean()) / 4) for image in gray]


def test_pairs_lie_evenly_over_a_video(tmp_path: Path) -> None:
    clip = encode_video(tmp_path / "a.mp4", number_frames(60), crf=1, gop=10)
    pairs = video_pairs([clip], 3, 16, 24)
    assert pairs.first.shape == pairs.second.shape == (3, 16, 24)
    assert pairs.first.dtype == np.uint8
    first = numbers(pairs.first)
    assert np.abs(np.subtract(first, (10, 30, 50))).max() <= 1
    assert numbers(pairs.second) == [k + 1 for k in first]
    assert "1 video" in pairs.source and str(clip) in pairs.source


def test_pairs_lie_evenly_over_the_videos_of_a_folder(tmp_path: Path) -> None:
    for k in range(6):
        folder = tmp_path / f"part-{k % 2}"
        folder.mkdir(exist_ok=True)
        encode_video(folder / f"{k}.mp4", np.full((5, 32, 32, 3), 40 * k, np.uint8))
    levels = {round(float(image.mean()) / 40) for image in video_pairs([tmp_path], 6, 32, 32).first}
    assert levels == set(range(6))
    assert len(video_pairs([tmp_path], 2, 32, 32).first) == 2
    assert len(video_pairs([tmp_path], 8, 32, 32).first) == 8


def test_the_good_frames_of_a_damaged_video_are_used(tmp_path: Path) -> None:
    """Half of the file is left, but its index, at the front, names all of it."""
    whole = encode_video(
        tmp_path / "a.mp4", number_frames(60), gop=10, container_options={"movflags": "+faststart"}
    )
    content = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: (content.index(b"mdat") + len(content)) // 2])
    pairs = video_pairs([cut], 8, 16, 16)
    assert 1 <= len(pairs.first) < 8
    assert len(pairs.left_out) == 1 and "cut.mp4" in pairs.left_out[0]
    assert pairs.source.startswith("1 video of")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    encode_video(tmp_path / "good.mp4", number_frames(8))
    encode_video(tmp_path / "short.mp4", number_frames(1))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    pairs = video_pairs([tmp_path], 6, 16, 16)
    assert len(pairs.first) == 2
    assert pairs.source.startswith("1 video of")
    assert ["broken.mp4" in m or "short.mp4" in m for m in pairs.left_out] == [True, True]
    with pytest.raises(DecodeError, match="none of the videos"):
        video_pairs([tmp_path / "short.mp4"], 1, 16, 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no videos"):
        video_pairs([tmp_path / "empty"], 1, 16, 16)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_pairs_are_generated_without_videos(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pairs than clips, and more, so that some clips give two."""
    monkeypatch.setattr(demo, "VIDEO_IDS", demo.VIDEO_IDS[:4])
    pairs = render_pairs(count, 48, 64)
    assert pairs.first.shape == pairs.second.shape == (count, 48, 64)
    assert "made on the spot" in pairs.source
    np.testing.assert_array_equal(pairs.first, render_pairs(count, 48, 64).first)
    assert all((a != b).any() for a, b in zip(pairs.first, pairs.second, strict=True))
    assert len({image.tobytes() for image in pairs.first}) == count


@pytest.mark.parametrize("name", ROWS)
def test_every_row_finds_a_known_motion(name: str) -> None:
    """Also says that u and v are not swapped, and that the flow leads from first to second."""
    if name in REFUSED:
        pytest.skip(REFUSED[name])
    first, second = (frame[None] for frame in translated_pair(96, 128, 2, -1, seed=3))
    solver = ROWS[name].solver()
    flow = np.asarray(solver.solve(solver.prepare(first), solver.prepare(second)))
    truth = np.array([2, -1], np.float32).reshape(1, 2, 1, 1)
    assert endpoint_px(flow, truth)[:, 20:-20, 20:-20].mean() < 0.25


def test_rows_hold_every_variant_and_say_why_they_are_refused() -> None:
    assert {f"flowpipe-{variant}" for variant in VARIANTS} <= set(ROWS)
    assert next(iter(ROWS)) == PEER
    assert all(REFUSED.values())
    if not hasattr(cv2, "cuda_NvidiaOpticalFlow_2_0"):
        for name in ("tvl1", "brox", "farneback", "nvidia"):
            assert "CUDA" in REFUSED[f"cv2-cuda-{name}"]


@pytest.mark.skipif(PEER in REFUSED, reason=REFUSED.get(PEER, ""))
def test_a_row_has_its_speed_and_its_distance() -> None:
    first, second = (frame[None] for frame in translated_pair(48, 64, 1, 0, seed=3))
    meter = Meter(Pairs(first, second, "a texture"), 2)
    alone = Meter(meter.pairs, 1).measure(ROWS["cv2-dis"])
    assert (alone.ratio, alone.difference_px, alone.spread) == (None, None, None)
    peer, dis = meter.measure(ROWS[PEER]), meter.measure(ROWS["cv2-dis"])
    assert (peer.ratio, peer.difference_px, peer.passes) == (1, 0, 2)
    assert peer.spread is not None and peer.spread >= 0
    assert dis.ratio == pytest.approx(peer.ms_cpu / dis.ms_cpu)
    assert dis.pairs_per_s == pytest.approx(1000 / dis.ms_cpu)
    assert dis.difference_px is not None and dis.difference_px > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins nothing")
def test_affinity_and_threads_are_restored() -> None:
    cores, threads = os.sched_getaffinity(0), cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError), use_one_core():
        assert len(os.sched_getaffinity(0)) == 1 and cv2.getNumThreads() == 1
        raise ZeroDivisionError
    assert (os.sched_getaffinity(0), cv2.getNumThreads()) == (cores, threads)
