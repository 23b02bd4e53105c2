"""Videos or generated clips -> pairs of consecutive gray frames to measure flow on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets import DATASETS, demo
from flowpipe.datasets.demo.motion import FRAMES
from flowpipe.errors import DecodeError
from flowpipe.ops import get_ops
from flowpipe.types import Frames
from flowpipe.words import count_noun

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pairs:
    """N pairs of consecutive gray frames."""

    first: NDArray[np.uint8]
    """First frame of each pair, (N, H, W)."""
    second: NDArray[np.uint8]
    """Second frame of each pair, (N, H, W)."""
    source: str
    """Description of the videos that they are from."""
    left_out: tuple[str, ...] = ()
    """One message per video that gave no pair, or fewer than its share."""


def video_pairs(paths: Sequence[Path], count: int, height: int, width: int) -> Pairs:
    """Read pairs that are evenly spread over videos and over the length of each.

    Parameters
    ----------
    paths : sequence of Path
        Videos, and folders that are searched with their subfolders.
    count : int
        Number of pairs; there are fewer if a video is unreadable.
    height, width : int
        Size to which frames are resized, as in extraction.

    Returns
    -------
    Pairs
        The pairs.

    Raises
    ------
    DatasetError
        If a folder holds no video.
    DecodeError
        If no video could be read.
    """
    videos = [video for path in paths for video in _videos(path)]
    frames: list[NDArray[np.uint8]] = []
    left_out, read = [], 0
    for video, share in _shares(videos, count):
        before = len(frames)
        try:
            frames.extend(_gray(two, height, width) for two in _frames_of(video, share))
        except DecodeError as error:
            left_out.append(str(error))
        read += len(frames) > before
    if not frames:
        raise DecodeError(f"none of the videos can be read: {left_out[0]}")
    source = f"{count_noun(read, 'video')} of {', '.join(map(str, paths))}"
    return _pairs(frames, source, tuple(left_out))


def render_pairs(count: int, height: int, width: int) -> Pairs:
    """Render pairs of the demo set's clips; nothing is written to disk.

    Parameters
    ----------
    count : int
        Number of pairs.
    height, width : int
        Size to which frames are resized.

    Returns
    -------
    Pairs
        The pairs.
    """
    frames = []
    for clip, share in _shares(demo.VIDEO_IDS, count):
        starts = ((2 * k + 1) * (FRAMES - 1) // (2 * share) for k in range(share))
        drawn = demo.clean_frames(clip, numbers=(n for k in starts for n in (k, k + 1)))
        frames += [_gray(np.stack(two), height, width) for two in zip(drawn, drawn, strict=True)]
    source = "clips made on the spot, as those of the demo set (no video was named)"
    return _pairs(frames, source)


def _videos(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [Path(record.path) for record in DATASETS["folder"].load(path).records]


def _shares(sources: Sequence[Item], count: int) -> Iterable[tuple[Item, int]]:
    """Yield evenly spaced sources, `count` at most, each with its number of pairs."""
    chosen = min(count, len(sources))
    for k in range(chosen):
        source = sources[(2 * k + 1) * len(sources) // (2 * chosen)]
        yield source, (k + 1) * count // chosen - k * count // chosen


def _frames_of(video: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` times two consecutive frames (2, H, W, 3), evenly over the video."""
    from flowpipe.video import probe  # it imports PyAV, which generated pairs do not need

    head = _two_frames(video, None)
    start_s, step_s = head.pts_s[0], head.pts_s[1] - head.pts_s[0]
    starts_s = max(0.0, probe(video).duration_s - 2 * step_s)  # start of the last pair
    for k in range(count):
        yield _two_frames(video, start_s + starts_s * (k + 0.5) / count).data


def _two_frames(video: Path, start_s: float | None) -> Frames:
    from flowpipe.video import open_video

    with open_video(video, start_s=start_s) as reader:
        for window in islice(reader.windows(max_frames=2), 1):
            if len(window.data) == 2:
                return window
    raise DecodeError(f"{video}: wanted two frames of one size, found one", reason="too_short")


def _gray(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    ops = get_ops()
    return ops.gray(ops.resize(frames, height, width))


def _pairs(
    frames: Sequence[NDArray[np.uint8]], source: str, left_out: tuple[str, ...] = ()
) -> Pairs:
    first, second = np.stack(frames, axis=1)
    return Pairs(first, second, source, left_out)
