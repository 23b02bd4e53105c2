"""Packets -> the same packets, without marks of corruption where transport streams were joined.

The continuity counters of transport streams jump where two recordings meet. FFmpeg takes the jump
for a loss, and marks one of the last packets of the first recording as corrupt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import av

HELD = 2
"""Packets from a marked one, inclusive, to the join: FFmpeg's parser is one packet late."""


def clear_join_corruption(packets: Iterator[Any]) -> Iterator[Any]:
    """Clear the mark of packets directly before a keyframe at which decoding times run backwards.

    A loss does not set the clock back. A marked packet and the next one are held until then.

    Parameters
    ----------
    packets : iterator of av.Packet
        Packets in file order.

    Yields
    ------
    av.Packet
        The same packets.
    """
    held: deque[Any] = deque()
    try:
        for packet in packets:
            if held and packet.is_keyframe and _is_earlier(packet.dts, held[-1].dts):
                for marked in held:
                    marked.is_corrupt = False
            held.append(packet)
            while held and (not held[0].is_corrupt or len(held) > HELD):
                yield held.popleft()
    except (av.error.FFmpegError, OSError):
        yield from held
        raise
    yield from held


def _is_earlier(dts: int | None, before: int | None) -> bool:
    return dts is not None and before is not None and dts < before
