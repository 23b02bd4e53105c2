"""Video whose first frames have no timestamps -> time of the first frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import av

from flowpipe.video.demuxer import Demuxer
from flowpipe.video.pictures import PictureReader


def time_of_first(path: str, stream: int, step_s: float) -> float | None:
    """Return the time of the first frame, counted back from the first timestamp.

    Reads the file up to the first packet with a timestamp, then decodes it up to the first frame
    with one. Keeps no frames.

    Parameters
    ----------
    path : str
        Video file.
    stream : int
        Index of the video stream.
    step_s : float
        Frame interval, seconds.

    Returns
    -------
    float or None
        Seconds; None if no frame has a timestamp.
    """
    with Demuxer(path, stream=stream) as source:
        if not _has_timestamps(source.packets()):
            return None
    pictures = PictureReader(Demuxer(path, stream=stream))
    with contextlib.closing(pictures):
        for count, (pts_s, _) in enumerate(pictures):
            if pts_s is not None:
                return pts_s - count * step_s
    return None


def _has_timestamps(packets: Iterable[Any]) -> bool:
    try:
        return any(packet.pts is not None for packet in packets)
    except (av.error.FFmpegError, OSError):
        return False
