"""H.264 or HEVC packet -> whether it has a picture, and how many are missing before it."""

from __future__ import annotations

from collections.abc import Iterator

from flowpipe.video.frame_num import (
    PARAMETER_BYTES,
    PICTURE_PARAMETERS,
    SEQUENCE_PARAMETERS,
    SLICE_BYTES,
    SLICES,
    FrameNumbers,
)

WITHOUT_PICTURE = {
    # codec -> types of NAL units without a picture (H.264 table 7-1, HEVC table 7-1)
    "h264": frozenset({6, 7, 8, 9, 10, 11, 12, 13}),  # SEI, SPS, PPS, AUD, ends, filler, SPS ext.
    "hevc": frozenset({32, 33, 34, 35, 36, 37, 38, 39, 40}),  # VPS, SPS, PPS, AUD ... SEI
}
START = b"\0\0\1"


class NalReader:
    """Reader of the NAL units in one stream's packets, in decoding order.

    Parameters
    ----------
    codec : str
        FFmpeg's name. Packets of codecs other than ``h264`` and ``hevc`` always have a picture.
    extradata : bytes
        Decoder configuration; it has the size of the length fields, if units have no start codes
        (ISO/IEC 14496-15).
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec = codec
        self._without_picture = WITHOUT_PICTURE.get(codec, frozenset())
        self._numbers = FrameNumbers() if codec == "h264" else None
        self._length_bytes = 0
        at = 4 if codec == "h264" else 21
        if extradata[:1] == b"\1" and len(extradata) > at:
            self._length_bytes = (extradata[at] & 3) + 1
        if self._numbers is not None:
            for unit in _avcc_units(extradata) if self._length_bytes else _annex_b(extradata):
                self._numbers.learn(unit)

    def read(self, packet: bytes, *, is_key: bool) -> tuple[bool, int]:
        """Take the next packet.

        Parameters
        ----------
        packet : bytes
            Packet of H.264 or HEVC.
        is_key : bool
            True if the container or parser marks it as a keyframe.

        Returns
        -------
        bool
            True if the packet has a picture, or a unit of an unknown type.
        int
            Number of H.264 reference pictures missing before it.
        """
        if not self._without_picture:
            return True, 0
        empty, shows = True, False
        for at in self._by_length(packet) if self._length_bytes else _by_start_code(packet):
            byte, empty = packet[at], False
            kind = byte & 0x1F if self._codec == "h264" else byte >> 1 & 0x3F
            shows = shows or kind not in self._without_picture
            if self._numbers is None:
                if shows:
                    return True, 0
            elif kind in (SEQUENCE_PARAMETERS, PICTURE_PARAMETERS):
                self._numbers.learn(packet[at : at + PARAMETER_BYTES])
            elif kind in SLICES:
                unit = packet[at : at + SLICE_BYTES]
                return True, self._numbers.count_missing(unit, is_key=is_key)
        return shows or empty, 0

    def _by_length(self, packet: bytes) -> Iterator[int]:
        """Yield the position of the first byte of each unit."""
        at, size = 0, self._length_bytes
        while at + size < len(packet):
            length = int.from_bytes(packet[at : at + size], "big")
            if length:
                yield at + size
            at += size + length


def _by_start_code(packet: bytes) -> Iterator[int]:
    """Yield the position of the first byte of each unit."""
    at = packet.find(START)
    while 0 <= at < len(packet) - len(START):
        yield at + len(START)
        at = packet.find(START, at + len(START))


def _annex_b(extradata: bytes) -> Iterator[bytes]:
    """Yield the parameter sets, each with the bytes that follow it."""
    for at in _by_start_code(extradata):
        yield extradata[at:]


def _avcc_units(extradata: bytes) -> Iterator[bytes]:
    """Yield the parameter sets of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 5
    for mask in (0x1F, 0xFF):
        count, at = int.from_bytes(extradata[at : at + 1], "big") & mask, at + 1
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            unit = extradata[at + 2 : at + 2 + length]
            if unit:
                yield unit
            at += 2 + length
