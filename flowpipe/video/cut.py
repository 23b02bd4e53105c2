"""Path -> times at which a long video can be split so that its parts decode to the same frames."""

from __future__ import annotations

import heapq
import math
import os
from typing import Any

import av

from flowpipe.video.demuxer import Demuxer
from flowpipe.video.timestamps import MAX_GAP_S

CONTAINERS = ("mov", "matroska", "avi")
"""Formats with an index that makes seeking reliable; transport and program streams have none."""
REORDER = 32
"""Packets that are sorted into display order; codecs delay at most 16."""


def cut_points(
    path: str | os.PathLike[str], max_part_s: float, *, stream: int | None = None
) -> tuple[float, ...]:
    """Find keyframe times that split a video into parts of about equal length.

    Reads every packet once and decodes none; memory does not grow with the video.

    Parameters
    ----------
    path : path
        Video file.
    max_part_s : float
        Wanted length of a part, seconds; parts are longer where keyframes are further apart.
    stream : int, optional
        Index of the video stream, as in `VideoParams`; None chooses one.

    Returns
    -------
    tuple of float
        Ascending times c1, c2 ... of parts [start, c1), [c1, c2) ..., seconds. Empty if the video
        is short enough, or if its parts might decode to other frames: no seekable index, damage, or
        timestamps that are missing, repeated or run backwards.

    Raises
    ------
    ValueError
        If `max_part_s` is not positive.
    DecodeError
        As `open_video`.
    """
    if not max_part_s > 0:
        raise ValueError(f"max_part_s must be positive, got {max_part_s}")
    with Demuxer(path, stream=stream) as source:
        if source.format not in CONTAINERS or (source.counts_frames and source.reorders):
            return ()
        scan = _Scan(source, max_part_s / 16)
        try:
            for packet in source.packets():
                if packet.size and not scan.take(packet):
                    return ()
        except (av.error.FFmpegError, OSError):
            return ()
        if not scan.rest_rises():
            return ()
        return scan.cuts(max_part_s)


class _Scan:
    """Scan of a video's packets; it keeps keyframes that are at least `spacing_s` apart."""

    def __init__(self, source: Demuxer, spacing_s: float) -> None:
        self.source = source
        self.spacing_s = spacing_s
        self.keys: list[float] = []
        self.first_s = math.inf
        self.last_s = -math.inf
        self._waiting: list[int] = []
        self._shown: int | None = None

    def take(self, packet: Any) -> bool:
        """Take the next packet; return False if the video must not be split."""
        if packet.pts is None or packet.is_corrupt:
            return False
        heapq.heappush(self._waiting, packet.pts)
        if len(self._waiting) > REORDER and not self._show():
            return False
        time_s = self.source.seconds(packet.pts)
        assert time_s is not None
        if packet.is_discard:
            return True
        latest_s = max(self.last_s + MAX_GAP_S, self.source.steady_end_s)
        if self.last_s > -math.inf and time_s > latest_s:
            return False
        self.first_s = min(self.first_s, time_s)
        self.last_s = max(self.last_s, time_s)
        if packet.is_keyframe and (not self.keys or time_s >= self.keys[-1] + self.spacing_s):
            self.keys.append(time_s)
        return True

    def rest_rises(self) -> bool:
        """Return whether the timestamps still waiting after the last packet rise."""
        return all([self._show() for _ in range(len(self._waiting))])

    def _show(self) -> bool:
        pts = heapq.heappop(self._waiting)
        rising = self._shown is None or pts > self._shown
        self._shown = pts
        return rising

    def cuts(self, max_part_s: float) -> tuple[float, ...]:
        """Choose the keyframes nearest to an even division."""
        if not self.keys:
            return ()
        length_s = self.last_s - self.first_s
        parts = math.ceil(length_s / max_part_s) if length_s > 0 else 1
        chosen: list[float] = []
        for part in range(1, parts):
            wanted_s = self.first_s + length_s * part / parts
            key_s = min(self.keys, key=lambda s: abs(s - wanted_s))  # noqa: B023
            if key_s > (chosen[-1] if chosen else self.first_s) and key_s < self.last_s:
                chosen.append(key_s)
        return tuple(chosen)
