"""Windows of frames -> windows that suit the device: gathered, or halved where it lacks memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from flowpipe.errors import DecodeError, DeviceMemoryError
from flowpipe.types import Frames
from flowpipe.words import counted

T = TypeVar("T")

WINDOW_BYTES = 32 << 20  # of the frames of a window, decoded or resized


def halved(make: Callable[[Frames], T], frames: Frames, path: str) -> Iterator[T]:
    """What is made of a window, or of its halves where the device has too little memory for all of
    it at once."""
    try:
        yield make(frames)
        return
    except DeviceMemoryError:
        parts = halves(frames)
        if not parts:
            raise
        say_short(path, len(frames.data), "frame")
    # Outside the handler, whose error holds all that was in memory.
    for part in parts:
        yield from halved(make, part, path)


def halves(frames: Frames) -> tuple[Frames, ...]:
    """Return two windows of half of the frames each; none for a single frame."""
    count = len(frames.data)
    if count < 2:
        return ()
    parts = slice(count // 2), slice(count // 2, count)
    return tuple(Frames(frames.data[part], frames.pts_s[part]) for part in parts)


def say_short(path: str, count: int, what: str) -> None:
    """Warn that the device lacks memory for so many frames or pairs of a video at once."""
    words = f"too little device memory for {counted(count, what)} at once; going on with"
    warnings.warn(f"{path}: {words} {count // 2}", RuntimeWarning, stacklevel=3)


def gathered(windows: Iterator[Frames], count: int) -> Iterator[Frames]:
    """Windows -> windows of up to `count` frames: of a large video few are decoded at a time, but
    their resized images are small, and a GPU wants many."""
    held: list[Frames] = []
    held_bytes = 0
    damage = None
    try:
        for frames in windows:
            most = min(count * frames.data[0].nbytes, WINDOW_BYTES)
            if held and held_bytes + frames.data.nbytes > most:
                yield joined(held)
                held, held_bytes = [], 0
            held.append(frames)
            held_bytes += frames.data.nbytes
            if held_bytes + frames.data[0].nbytes > most:  # full: nobody waits for more
                yield joined(held)
                held, held_bytes = [], 0
    except DecodeError as error:
        damage = error  # what came before it is good
    if held:
        yield joined(held)
    if damage is not None:
        raise damage


def joined(windows: list[Frames]) -> Frames:
    """Windows of one size as one."""
    if len(windows) == 1:
        return windows[0]
    return Frames(
        np.concatenate([frames.data for frames in windows]),
        np.concatenate([frames.pts_s for frames in windows]),
    )
