"""Paths of videos -> Sample: what probed headers say of all of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from flowpipe.remote import facts_of
from flowpipe.video import probe

SAMPLE = 64
"""Videos probed to learn how many frames a byte holds."""
MOST_FRAMES_PER_BYTE = 0.1


@dataclass(frozen=True)
class Sample:
    """Mean facts of all videos, estimated from the headers of some of them."""

    frames_per_byte: float
    height: int
    width: int
    largest: str = ""
    """Path of the one with the largest pictures; empty where none can be probed."""


def look_at(paths: Sequence[str], fps: float, stream: int | None = None) -> Sample:
    """Probe an evenly spaced sample of videos; unreadable ones are left out.

    Parameters
    ----------
    paths : sequence of str
    fps : float
        Rate that the recipe resamples to, 0 for none.
    stream : int, optional
        Video stream that the recipe asks for; None chooses one.
    """
    step = max(1, len(paths) // SAMPLE)
    found, largest = [], (0, "")
    for path in paths[::step][:SAMPLE]:
        try:
            probed, size = probe(path, stream=stream), facts_of(path).bytes
        except Exception:  # whatever one file does; its worker will say what is wrong with it
            continue
        frames = probed.duration_s * fps if fps and probed.duration_s else probed.frames_estimate
        if frames and size:
            # A header that promises more is wrong, and would refuse the run for want of disk.
            density = min(frames / size, MOST_FRAMES_PER_BYTE)
            found.append((density, probed.height, probed.width))
            largest = max(largest, (probed.height * probed.width, path))
    if not found:
        # Nothing can be probed, so the videos will fail one by one and any figure will do.
        return Sample(1 / 4000, 256, 340)
    density, height, width = (statistics.median(values) for values in zip(*found, strict=True))
    return Sample(density, round(height), round(width), largest[1])
