"""Path -> Probe: what a header says of a video, for planning only. Nothing is decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass

from flowpipe.video.demuxer import Source


@dataclass(frozen=True)
class Probe:
    """Estimates from a header. Decoding alone tells the truth."""

    width: int
    height: int
    """Coded size, before any rotation; 0 where the header has none."""
    frames_estimate: int
    """0 where neither a count nor a duration is given."""
    duration_s: float
    fps: float
    video_bytes: int
    """Size of the file."""


def probe(path: str | os.PathLike[str], *, stream: int | None = None) -> Probe:
    """Look at a video's header; `stream` is the index of a video stream, None chooses one.

    Raises
    ------
    DecodeError
        ``missing``, ``empty``, ``unreadable``, ``no_video``, ``unsupported``, ``still_picture``
        or ``encrypted``.
    """
    with Source(path, stream=stream) as source:
        rate = source.stream.average_rate or source.stream.guessed_rate
        fps = float(rate) if rate else 0.0
        duration_s = max(0.0, source.declared_end_s - source.declared_start_s)
        frames = source.stream.frames or 0
        # a count that is far off the duration is a count of something else
        if duration_s and fps and not 0.5 < (frames + 1) / (duration_s * fps + 1) < 2:
            frames = round(duration_s * fps)
        return Probe(
            width=source.context.width or 0,
            height=source.context.height or 0,
            frames_estimate=max(0, frames),
            duration_s=duration_s,
            fps=fps,
            video_bytes=source.bytes,
        )
