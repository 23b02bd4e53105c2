"""Files of features for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.features import Extent, FeatureVideo, StreamFacts, cut_windows
from flowpipe.features.file_format import FILE_FACTS, STREAM_FACTS
from flowpipe.features.windows import frame_s
from flowpipe.features.writer import WindowedVideo, write_features
from flowpipe.types import Interval, VideoRecord

CLASSES = ("bow", "hug", "kick")
RECORDS = (
    VideoRecord(
        "v/1",
        "/v/1.avi",
        labels=(0,),
        subset="validation",
        splits=("train1",),
        segments=(Interval(0, 0.5, 1.25),),
    ),
    VideoRecord(
        "video_test_0000001",
        "/2.avi",
        labels=(1, 2),
        subset="test",
        splits=("test1",),
        segments=(Interval(1, 0.2, 0.9), Interval(2, 1.0, 1.5)),
        ambiguous=((0.9, 1.0),),
    ),
)


def constant(frames: int) -> NDArray[np.float64]:
    """Return the times of frames at 25 frames per second."""
    return np.arange(frames) / 25


def make_windowed(
    record: VideoRecord, pts_s: NDArray[np.float64], window: Extent, stride: Extent
) -> WindowedVideo:
    start_s, end_s = float(pts_s[0]), float(pts_s[-1]) + frame_s(pts_s)
    video = FeatureVideo(
        record, frames=len(pts_s), fps=1 / frame_s(pts_s) if len(pts_s) > 1 else 0.0,
        start_s=start_s, end_s=end_s, status="done",
    )  # fmt: skip
    return WindowedVideo(video, cut_windows(pts_s, window, stride))


def make_features(
    path: Path,
    frames: tuple[int, ...] = (40, 60),
    window: Extent = Extent(16),  # noqa: B008  (frozen)
    stride: Extent = Extent(4),  # noqa: B008
    classes: tuple[str, ...] = CLASSES,
    dims: int = 5,
    records: tuple[VideoRecord, ...] = RECORDS,
    clock: Callable[[int], NDArray[np.float64]] = constant,
    left_out: Mapping[str, Mapping[str, str]] | None = None,
    **facts: Any,
) -> Mapping[tuple[str, str], tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Write rgb and flow of some videos; return (features, scores) by stream and video."""
    rng, left_out = np.random.default_rng(7), left_out or {}
    videos = [
        make_windowed(r, clock(n), window, stride) for r, n in zip(records, frames, strict=True)
    ]
    made = {
        (stream, video.video_id): (
            rng.normal(size=(len(video.windows), dims)).astype("f4"),
            rng.normal(size=(len(video.windows), len(classes))).astype("f4"),
        )
        for stream in ("rgb", "flow") for video in videos
    }  # fmt: skip
    streams = [
        StreamFacts(
            name, classes, {**dict.fromkeys(STREAM_FACTS, name), "left_out": left_out.get(name, {})}
        )
        for name in ("rgb", "flow")
    ]
    all_facts = {
        **dict.fromkeys(FILE_FACTS),
        "window": window.facts,
        "stride": stride.facts,
        "left_out": {},
    }
    all_facts |= {"class_names": list(classes), **facts}
    write_features(path, all_facts, videos, streams, lambda *key: made[key])
    return made
