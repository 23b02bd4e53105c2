"""AVI packets, index of the file -> number of skipped frames, corrected timestamps.

FFmpeg numbers the chunks of an AVI file as it finds them. A chunk whose header is damaged is not
found, and every later frame gets the time of its predecessor. The index at the end of the file has
the position of each frame.
"""

from __future__ import annotations

from typing import Any

CHUNK_HEADER_BYTES = 8
LOOK_AHEAD = 256
"""Index entries searched for a packet; damage that skips more is not found."""


class AviIndex:
    """Compares packets with the index of their stream, in file order.

    Parameters
    ----------
    stream : av.VideoStream
        Stream of an AVI file.

    Attributes
    ----------
    shift : int
        Correction to add to the timestamps of the latest packet.
    """

    def __init__(self, stream: Any) -> None:
        self._entries: Any = stream.index_entries
        self._frames: int = stream.frames
        self._row: int | None = None
        self.shift = 0

    @property
    def declared(self) -> int:
        """Number of frames that the file declares, without repeated ones; 0 if unknown."""
        return min(self._frames, len(self._entries) or self._frames)

    def count_skipped(self, packet: Any) -> int:
        """Count the frames that the file lost before the next packet.

        Parameters
        ----------
        packet : av.Packet
            The next packet of the stream.

        Returns
        -------
        int
            Number of frames between it and the packet before.
        """
        if packet.dts is None or packet.pos is None or not len(self._entries):
            return 0
        first = self._row is None
        row = self._find(packet, packet.dts + self.shift if self._row is None else None)
        if row is None:
            return 0
        previous, self._row = self._row, row
        if first or previous is None:
            return 0
        # An index that has lost entries itself would move frames to earlier times.
        self.shift = max(self.shift, self._entries[row].timestamp - packet.dts)
        return row - previous - 1

    def _find(self, packet: Any, timestamp: int | None) -> int | None:
        """Return the row of the index entry at the packet's position; None if there is none."""
        start = 0 if self._row is None else self._row + 1
        if timestamp is not None:
            start = max(0, self._entries.search_timestamp(timestamp, any_frame=True))
        for row in range(start, min(start + LOOK_AHEAD, len(self._entries))):
            if self._entries[row].pos + CHUNK_HEADER_BYTES == packet.pos:
                return row
        return None
