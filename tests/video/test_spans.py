"""Parts of a split video have the frames, times and counts of the whole, to the bit."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe.types import VideoFacts
from flowpipe.video import VideoParams, cut_points, open_video

Read = tuple[list[tuple[float, int]], bool, VideoFacts]


def read(path: Path, fps: float, start_s: float | None = None, stop_s: float | None = None) -> Read:
    """(time, checksum) of every frame, whether the last one is the seam, the facts."""
    with open_video(path, VideoParams(fps=fps), start_s=start_s, stop_s=stop_s) as reader:
        frames = [
            (float(time), zlib.crc32(frame.tobytes()))
            for window in reader.windows(7)
            for time, frame in zip(window.pts_s, window.data, strict=True)
        ]
        return frames, reader.seam, reader.facts


def check_parts(path: Path, cuts: tuple[float, ...], fps: float) -> None:
    whole, seam, facts = read(path, fps)
    assert not seam
    together: list[tuple[float, int]] = []
    decoded = dropped = 0
    for start_s, stop_s in itertools.pairwise([None, *cuts, None]):
        part, seam, part_facts = read(path, fps, start_s, stop_s)
        decoded += part_facts.frames_decoded
        dropped += part_facts.frames_dropped
        assert part_facts.start_s == facts.start_s
        if stop_s is None:
            assert not seam
        elif seam:
            assert part.pop() == whole[len(together) + len(part)], "the seam is the next frame"
        else:
            assert len(together) + len(part) == len(whole)
        together += part
    assert together == whole
    assert (decoded, dropped) == (facts.frames_decoded, facts.frames_dropped)


OPEN_GOP = "open-gop=1:keyint=20:bframes=4"
ENCODINGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "h264": ("mp4", "libx264", {"gop": 20, "b_frames": 3}),
    "h264-open": ("mp4", "libx264", {"x264-params": OPEN_GOP + ":b-pyramid=normal:ref=5"}),
    "h264-open-mkv": ("mkv", "libx264", {"x264-params": OPEN_GOP}),
    "h264-refresh": ("mkv", "libx264", {"x264-params": "intra-refresh=1:keyint=20"}),
    "hevc-closed": ("mp4", "libx265", {"x265-params": "open-gop=0:keyint=20"}),
    "hevc-open": ("mkv", "libx265", {"x265-params": OPEN_GOP}),
    "mpeg4": ("mp4", "mpeg4", {"gop": 20, "b_frames": 2}),
    "mpeg4-avi": ("avi", "mpeg4", {"gop": 20, "b_frames": 0}),
    "h264-avi": ("avi", "libx264", {"gop": 20, "b_frames": 0}),
    "vp9": ("webm", "libvpx-vp9", {"gop": 20, "deadline": "realtime", "cpu-used": 8}),
    "ffv1": ("mkv", "ffv1", {}),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_parts_are_the_whole_video(encoding: str, tmp_path: Path) -> None:
    container, codec, options = ENCODINGS[encoding]
    path = encode_video(tmp_path / f"clip.{container}", moving_clip(160), codec=codec, **options)
    cuts = cut_points(path, 1.7)
    assert len(cuts) == 3
    for fps in (0, 7.3, 50):
        check_parts(path, cuts, fps)


def test_parts_of_a_video_of_variable_rate_are_the_whole(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    times = 4 + np.cumsum(rng.choice([0.02, 0.033, 0.1, 0.5], 120))
    for container in ("mp4", "mkv"):
        path = encode_video(
            tmp_path / f"clip.{container}", moving_clip(120), pts_s=times, gop=15, b_frames=2
        )
        cuts = cut_points(path, 4)
        assert len(cuts) > 2
        for fps in (0, 12, 29.97):
            check_parts(path, cuts, fps)


@pytest.mark.parametrize(
    "name",
    ["clips/kinetics/SOX5yA1l24A.mp4", "clips/ucf101/Diving/v_Diving_g01_c03.avi",
     "nasty/nasa_13013_hdr.mp4", "nasty/discard_first_keyframe.mp4",
     "nasty/decord_flipping_a_pancake.mkv"],
)  # fmt: skip
def test_parts_of_real_clips_are_the_whole(name: str, shared_data: Path) -> None:
    path = shared_data / name
    cuts = cut_points(path, 3 if "discard" not in name else 0.4)
    assert cuts
    for fps in (0, 29.97):
        check_parts(path, cuts, fps)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi", "h264"])
def test_parts_are_the_whole_whatever_the_times(container: str, tmp_path: Path) -> None:
    """Times that are no keyframes, and files without an index: slower, but the same frames."""
    codec = "mpeg4" if container == "avi" else "libx264"
    path = encode_video(
        tmp_path / f"clip.{container}", moving_clip(60), codec=codec, gop=12, b_frames=2
    )
    check_parts(path, (0.31, 0.77, 0.78, 1.99), 0)
    if container != "h264":
        check_parts(path, (0.31, 0.77, 0.78, 1.99), 11)


@pytest.mark.parametrize(
    ("container", "codec"), [("ts", "libx264"), ("h264", "libx264"), ("avi", "mpeg4")]
)
def test_videos_that_seeking_cannot_trust_are_not_cut(
    container: str, codec: str, tmp_path: Path
) -> None:
    path = encode_video(
        tmp_path / f"clip.{container}", moving_clip(60), codec=codec, gop=12, b_frames=2
    )
    assert cut_points(path, 0.5) == ()


def test_cuts_are_even_keyframes(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(250, 32, 48), gop=10, sc_threshold=0)
    assert cut_points(path, 10) == ()
    cuts = cut_points(path, 4)
    assert cuts == pytest.approx((3.2, 6.8), abs=0.41)
    assert all(abs(cut / 0.4 - round(cut / 0.4)) < 1e-6 for cut in cuts)
    assert len(cut_points(path, 0.01)) == 24
    with pytest.raises(ValueError, match="positive"):
        cut_points(path, 0)


def test_a_span_outside_of_the_video_is_empty(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(25))
    assert read(path, 0, 5.0, 6.0)[0] == []
    frames, seam, facts = read(path, 0, None, -1.0)
    assert (len(frames), seam, facts.frames_decoded) == (1, True, 0)
