"""Paths of videos -> HeaderSample: mean facts of all videos, from the headers of some."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from flowpipe.remote import file_facts
from flowpipe.video import probe

SAMPLE = 64
"""Number of videos that are probed."""
MOST_FRAMES_PER_BYTE = 0.1
"""Largest plausible number of frames per byte of a file."""


@dataclass(frozen=True)
class HeaderSample:
    """Median facts of videos, from the headers of a sample."""

    frames_per_byte: float
    """Frames per byte of a file, after resampling."""
    height: int
    width: int
    largest: str = ""
    """Path of the sampled video with the largest frames; empty if none can be probed."""


def probe_sample(paths: Sequence[str], fps: float, stream: int | None = None) -> HeaderSample:
    """Probe an evenly spaced sample of videos; unreadable ones are left out.

    Parameters
    ----------
    paths : sequence of str
        Paths or URLs of all videos.
    fps : float
        Frame rate to which the recipe resamples, frames per second; 0 for none.
    stream : int, optional
        Index of the video stream that the recipe asks for; None to choose one.

    Returns
    -------
    HeaderSample
        Headers of the sample.
    """
    step = max(1, len(paths) // SAMPLE)
    found, largest = [], (0, "")
    for path in paths[::step][:SAMPLE]:
        try:
            probed, size = probe(path, stream=stream), file_facts(path).bytes
        except Exception:  # any failure of one file; its worker will report it
            continue
        frames = probed.duration_s * fps if fps and probed.duration_s else probed.frames_estimate
        if frames and size:
            # A header that says more is wrong; it would stop the run for lack of disk space.
            density = min(frames / size, MOST_FRAMES_PER_BYTE)
            found.append((density, probed.height, probed.width))
            largest = max(largest, (probed.height * probed.width, path))
    if not found:
        # No video can be probed, so all will fail and the estimate does not matter.
        return HeaderSample(1 / 4000, 256, 340)
    density, height, width = (statistics.median(values) for values in zip(*found, strict=True))
    return HeaderSample(density, round(height), round(width), largest[1])
