"""Path -> Probe: estimates from the header of a video, for planning. Nothing is decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass

from flowpipe.video.demuxer import Demuxer


@dataclass(frozen=True)
class Probe:
    """Estimates from a header; decoding may show other values."""

    width: int
    """Coded width before rotation, pixels; 0 if unknown."""
    height: int
    """Coded height before rotation, pixels; 0 if unknown."""
    frames_estimate: int
    """Number of frames; 0 if the header has neither a count nor a duration."""
    duration_s: float
    """Duration, seconds; 0 if unknown."""
    fps: float
    """Frames per second; 0 if unknown."""


def probe(path: str | os.PathLike[str], *, stream: int | None = None) -> Probe:
    """Read a video's header.

    Parameters
    ----------
    path : path
        Video file.
    stream : int, optional
        Index of the video stream, as in `VideoParams`; None chooses one.

    Returns
    -------
    Probe
        Facts in the header, which may be wrong.

    Raises
    ------
    DecodeError
        ``missing``, ``empty``, ``unreadable``, ``no_video``, ``unsupported``, ``still_picture``
        or ``encrypted``.
    """
    with Demuxer(path, stream=stream) as source:
        rate = source.stream.average_rate or source.stream.guessed_rate
        fps = float(rate) if rate else 0.0
        duration_s = max(0.0, source.declared_end_s - source.declared_start_s)
        frames = source.stream.frames or 0
        # a count that disagrees with the duration does not count frames
        if duration_s and fps and not 0.5 < (frames + 1) / (duration_s * fps + 1) < 2:
            frames = round(duration_s * fps)
        return Probe(
            width=source.context.width or 0,
            height=source.context.height or 0,
            frames_estimate=max(0, frames),
            duration_s=duration_s,
            fps=fps,
        )
