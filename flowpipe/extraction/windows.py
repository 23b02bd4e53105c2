"""Windows of frames -> windows that suit the device: joined, or halved if it lacks memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from flowpipe.errors import DecodeError, DeviceMemoryError
from flowpipe.types import Frames
from flowpipe.words import count_noun

T = TypeVar("T")

DECODED_BYTES = 32 << 20  # most bytes of frames that are decoded at once, before resizing


def compute_in_halves(make: Callable[[Frames], T], frames: Frames, path: str) -> Iterator[T]:
    """Yield the result of `make` for a window, or for its halves if the device lacks memory.

    Parameters
    ----------
    make : callable
        Function of `Frames`, which may raise DeviceMemoryError.
    frames : Frames
        The window.
    path : str
        Path of the video, for the warning.

    Yields
    ------
    T
        Result for the window, or for one half after the other.
    """
    try:
        yield make(frames)
        return
    except DeviceMemoryError:
        parts = split_in_halves(frames)
        if not parts:
            raise
        warn_short_memory(path, len(frames.data))
    # Outside the handler: its error keeps the memory of the failed call.
    for part in parts:
        yield from compute_in_halves(make, part, path)


def split_in_halves(frames: Frames) -> tuple[Frames, ...]:
    """Split a window in halves.

    Parameters
    ----------
    frames : Frames
        The window.

    Returns
    -------
    tuple of Frames
        Two halves; () for a single frame.
    """
    count = len(frames.data)
    if count < 2:
        return ()
    parts = slice(count // 2), slice(count // 2, count)
    return tuple(Frames(frames.data[part], frames.pts_s[part]) for part in parts)


def warn_short_memory(path: str, count: int) -> None:
    """Warn that the device lacks memory for a window.

    Parameters
    ----------
    path : str
        Path of the video.
    count : int
        Frames of the window.
    """
    words = f"too little device memory for {count_noun(count, 'frame')} at once; continuing with"
    warnings.warn(f"{path}: {words} {count // 2}", RuntimeWarning, stacklevel=3)


def frames_per_window(count: int, most_bytes: int, frame_bytes: int) -> int:
    """Return how many frames make a window.

    Parameters
    ----------
    count : int
        Most frames.
    most_bytes : int
        Most bytes.
    frame_bytes : int
        Bytes of a frame.

    Returns
    -------
    int
        At least 1, at most `count`.
    """
    return max(1, min(count, most_bytes // frame_bytes))


def gather(windows: Iterator[Frames], count: int, most_bytes: int) -> Iterator[Frames]:
    """Join windows to larger ones.

    Few frames of a large video are decoded at once, but resized frames are small, and a GPU needs
    many of them. A DecodeError of `windows` is raised after the frames before it.

    Parameters
    ----------
    windows : iterator of Frames
        Windows of a video.
    count : int
        Most frames of a window.
    most_bytes : int
        Most bytes of a window.

    Yields
    ------
    Frames
        Larger windows.
    """
    data = np.empty((0, 0, 0, 3), np.uint8)
    times: list[float] = []
    damage = None
    try:
        for frames in windows:
            room = frames_per_window(count, most_bytes, frames.data[0].nbytes)
            end = len(times) + len(frames.data)
            if times and end > room:
                yield Frames(data[: len(times)], np.array(times))
                times, end = [], len(frames.data)
            if not times and end >= room:  # large enough already
                yield frames
                continue
            if not times:
                data = np.empty((room, *frames.data.shape[1:]), np.uint8)
            data[len(times) : end] = frames.data
            times.extend(frames.pts_s)
            if end == room:  # full
                yield Frames(data, np.array(times))
                times = []
    except DecodeError as error:
        damage = error  # the frames before it are good
    if times:
        yield Frames(data[: len(times)], np.array(times))
    if damage is not None:
        raise damage
