"""H.264 or HEVC packet -> whether it holds a picture, or parameters and messages alone."""

from __future__ import annotations

from collections.abc import Iterator

WITHOUT_PICTURE = {
    # codec -> types of units that are no part of a picture (H.264 table 7-1, HEVC table 7-1)
    "h264": frozenset({6, 7, 8, 9, 10, 11, 12, 13}),  # SEI, SPS, PPS, AUD, ends, filler, SPS ext.
    "hevc": frozenset({32, 33, 34, 35, 36, 37, 38, 39, 40}),  # VPS, SPS, PPS, AUD ... SEI
}
START = b"\0\0\1"


class Units:
    """Reads the units of one stream's packets.

    Parameters
    ----------
    codec : str
        FFmpeg's name. Packets of codecs other than ``h264`` and ``hevc`` always hold a picture.
    extradata : bytes
        The decoder configuration: it says how many bytes a length takes where units have no start
        codes (ISO/IEC 14496-15).
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec = codec
        self._without_picture = WITHOUT_PICTURE.get(codec, frozenset())
        self._length_bytes = 0
        at = 4 if codec == "h264" else 21
        if extradata[:1] == b"\1" and len(extradata) > at:
            self._length_bytes = (extradata[at] & 3) + 1

    def hold_picture(self, packet: bytes) -> bool:
        """Tell whether a packet holds a picture, or a unit of an unknown type."""
        if not self._without_picture:
            return True
        units = self._by_length(packet) if self._length_bytes else self._by_start_code(packet)
        kinds = (byte & 0x1F if self._codec == "h264" else byte >> 1 & 0x3F for byte in units)
        found = False
        for kind in kinds:
            if kind not in self._without_picture:
                return True
            found = True
        return not found

    def _by_start_code(self, packet: bytes) -> Iterator[int]:
        """First byte of each unit."""
        at = packet.find(START)
        while 0 <= at < len(packet) - len(START):
            yield packet[at + len(START)]
            at = packet.find(START, at + len(START))

    def _by_length(self, packet: bytes) -> Iterator[int]:
        at, size = 0, self._length_bytes
        while at + size < len(packet):
            length = int.from_bytes(packet[at : at + size], "big")
            if length:
                yield packet[at + size]
            at += size + length
