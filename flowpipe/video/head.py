"""Packets of a video -> its first packets and earliest timestamp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from flowpipe.errors import read_reason
from flowpipe.video.demuxer import Demuxer

START_PACKETS = 64
"""Packets read ahead to find the earliest timestamp; decoders delay at most 16 pictures."""
PLACEHOLDER_BYTES = 16
"""Size below which an MPEG-4 packet is a placeholder that repeats the last picture."""


def is_of_storage(failure: Exception | None) -> bool:
    """Return whether an error means that the storage failed, not that the file is damaged.

    Parameters
    ----------
    failure : Exception or None
        Error of a read.

    Returns
    -------
    bool
        True if the storage failed, False if the file is damaged.
    """
    if isinstance(failure, av.error.FFmpegError) or not isinstance(failure, OSError):
        return False
    return read_reason(failure) == "io"


def read_head(
    source: Demuxer, packets: Iterator[Any]
) -> tuple[list[Any], float | None, Exception | None]:
    """Read packets until the earliest timestamp is certain.

    Parameters
    ----------
    source : Demuxer
        Source of the packets.
    packets : iterator of av.Packet
        Its packets.

    Returns
    -------
    list of av.Packet
        The packets read.
    float or None
        Earliest timestamp, seconds; None if no packet has one.
    Exception or None
        The error that ended reading.
    """
    origin_s: float | None = None
    head: list[Any] = []
    lowest: int | None = None
    try:
        for packet in packets:
            head.append(packet)
            if _repeats_first(source, head):
                head[0].pts += 1
                lowest = head[0].pts
                origin_s = source.seconds(lowest)
                continue
            if packet.pts is not None and not packet.is_discard:
                lowest = packet.pts if lowest is None else min(lowest, packet.pts)
                origin_s = source.seconds(lowest)
            if not packet.size or len(head) == START_PACKETS:
                break
            # a picture is decoded before it is shown, so no earlier timestamp can follow
            if lowest is not None and packet.dts is not None and packet.dts >= lowest:
                break
    except (av.error.FFmpegError, OSError) as error:
        return head, origin_s, error
    return head, origin_s, None


def _repeats_first(source: Demuxer, head: list[Any]) -> bool:
    """Return whether only placeholders follow the first packet.

    FFmpeg's decoder returns the first picture after them.
    """
    return (
        source.counts_frames
        and source.reorders
        and source.codec == "mpeg4"
        and 1 < len(head) < START_PACKETS
        and head[0].pts is not None
        and all(0 < packet.size < PLACEHOLDER_BYTES for packet in head[1:])
    )
