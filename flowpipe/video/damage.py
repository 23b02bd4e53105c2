"""Packets sent to a decoder, pictures it returns -> pictures that are missing or may be wrong.

A damaged packet affects its own picture and those predicted from it, up to the next keyframe.
Decoders do not report which pictures these are, so all between damage and keyframe count as
damaged. Packets are numbered in coded order, and each picture has the number of its packet. This
works in every container, with or without timestamps.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

KEPT = 256
"""Packets whose pictures are awaited; decoders delay at most 16 pictures."""
LONGEST_GAP = 64
"""Largest gap, frames, that counts as a loss after a packet marked as corrupt; else it is a cut."""
REORDER = 32
"""Packets after which a picture that is still missing counts as lost."""

_MPEG4 = r"Error at MB|slice end not reached|does not match f_code|corrupt|damaged|overflow"
_MPEG2 = r"MVs not available|damaged|invalid (mb type|cbp)|slice mismatch|skipped MB in I-frame"
COMPLAINTS = {
    # codec -> messages that mean wrong pixels in the picture of a packet
    "ffv1": r"CRC mismatch|slice .*(damaged|invalid)",
    "h264": r"error while decoding MB",
    "hevc": r"Could not find ref|outside the valid range|constructing the frame RPS",
    "mjpeg": r"error (y=|dc|count)",
    "mpeg1video": _MPEG2,
    "mpeg2video": _MPEG2,
    "mpeg4": _MPEG4,
    "h263": _MPEG4,
    "flv1": _MPEG4,
    "msmpeg4v3": _MPEG4,
}
SELF_CHECKING = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
"""Codecs whose decoders detect a damaged keyframe. For other codecs, a keyframe that follows a
packet marked as corrupt counts as damaged, because the mark may be meant for it."""


class DecodedPicture(NamedTuple):
    """Decoded picture and the damage around it."""

    picture: Any
    """`av.VideoFrame` or `SurfacePicture`."""
    lost: int = 0
    """Number of pictures missing directly before this one."""
    damaged: bool = False
    """True if its pixels may be wrong."""


@dataclass(slots=True, kw_only=True)
class _SentPacket:
    """Packet whose picture the decoder has not returned."""

    time: tuple[int, int] | None
    """(number of times that decoding times ran backwards before it, pts)."""
    expected: bool
    """True if the packet has a picture."""
    early: bool
    """True if the packet is ignored, because it comes before the first keyframe."""
    is_key: bool
    suspect: bool = False
    """True if the decoder refused it, or reported an error at it and went on."""
    refused: bool = False
    frames: int = 1
    """Pictures that are lost with it."""


class DamageTracker:
    """Follows the packets of one pass through the decoder.

    Parameters
    ----------
    codec : str
        FFmpeg's name of the coding.
    in_order : bool
        True if timestamps rise in display order. AVI numbers frames in coded order.
    keys_from_packets : bool
        True if the container, not the decoder, marks keyframes.

    Attributes
    ----------
    number : int
        Number of the latest packet, from 0.
    expected, complete : int
        Number of packets with a picture, and of pictures that came from them.
    lost, damaged, concealed : int
        Number of pictures that are missing, that may be wrong, that the decoder concealed.
    silent : int
        Number of expected pictures that are missing without any damage near them.
    extra : int
        Number of pictures of packets that are ignored.
    unready : int
        Number of pictures that an H.264 decoder left out because it began between two IDR pictures,
        where it waits until the references are complete.
    """

    def __init__(self, codec: str, *, in_order: bool, keys_from_packets: bool = False) -> None:
        self._complaints = re.compile(COMPLAINTS.get(codec, r"(?!)"), re.IGNORECASE)
        self._reach = 0 if codec in SELF_CHECKING else 1
        self._waits = codec == "h264"
        self._first: int | None = None
        """Number of the first picture."""
        self._first_time: tuple[int, int] | None = None
        self._in_order = in_order
        self._keys_from_packets = keys_from_packets
        self._sent: dict[int, _SentPacket] = {}
        self._numbers: dict[int, int] = {}
        self._epoch = 0
        self._dts: int | None = None
        self._doubts: dict[int, bool] = {}
        """True where the demuxer failed, by number of a packet near which the file is damaged."""
        self._last: tuple[int, int] | None = None
        self._steps: deque[int] = deque(maxlen=16)
        self._unhealed: list[tuple[int, int]] = []
        self._healed = 0
        """Number of the latest undamaged keyframe."""
        self._due = 0
        self._begun_at: int | None = None
        """Number of the first packet that is not ignored."""
        self.number = -1
        self.expected = self.complete = 0
        self.lost = self.damaged = self.concealed = self.silent = self.extra = self.unready = 0

    def send(
        self, packet: Any, *, expected: bool, early: bool = False, misread: bool = False
    ) -> int:
        """Take the next packet.

        Parameters
        ----------
        packet : av.Packet
            If it is marked as corrupt, the mark may be meant for the packet after it.
        expected : bool
            True if the packet has a picture.
        early : bool
            True if the packet is ignored, because it comes before the first keyframe.
        misread : bool
            True if the demuxer reported an error since the previous packet.

        Returns
        -------
        int
            Number of the packet.
        """
        self.number += 1
        expected = expected and not early
        self.expected += expected
        if not early and self._begun_at is None:
            self._begun_at = self.number
        if None not in (packet.dts, self._dts) and packet.dts < self._dts:
            self._epoch += 1
        self._dts = packet.dts
        self._sent[self.number] = _SentPacket(
            time=self._time(packet.pts), expected=expected, early=early, is_key=packet.is_keyframe
        )
        if packet.pts is not None:
            self._numbers[packet.pts] = self.number
        if (packet.is_corrupt or misread) and expected:
            self._doubts[self.number] = misread
        if packet.is_corrupt and expected:
            self._unhealed.append((self.number, self.number + self._reach))
        if len(self._sent) > KEPT:
            self._due += self._drop(next(iter(self._sent)))
        if len(self._numbers) > KEPT:
            del self._numbers[next(iter(self._numbers))]
        return self.number

    def skip(self, frames: int) -> None:
        """Record frames that the file lost before the next packet.

        Parameters
        ----------
        frames : int
            Number of lost frames.
        """
        self.number += 1
        self._sent[self.number] = _SentPacket(
            time=None,
            expected=True,
            early=False,
            is_key=False,
            suspect=True,
            refused=True,
            frames=frames,
        )
        self._hurt(self.number)

    def miss(self, frames: int) -> None:
        """Record that the coding's frame numbers jump at the next packet.

        Parameters
        ----------
        frames : int
            Number of missing pictures; 0 if timestamps will show it.
        """
        if frames:
            self.skip(frames)
        else:
            self._hurt(self.number + 1)

    def refuse(self) -> None:
        """Record that the decoder raised an error at the latest packet."""
        sent = self._sent.get(self.number)
        if sent is not None and sent.expected:
            sent.suspect = sent.refused = True
            self._hurt(self.number)

    def complain(self, message: str) -> None:
        """Record that the decoder reported an error at the latest packet and went on.

        Parameters
        ----------
        message : str
            Message of the decoder.
        """
        sent = self._sent.get(self.number)
        if sent is not None and sent.expected:
            sent.suspect = True
            if self._complaints.search(message):
                self._hurt(self.number)

    def show(self, picture: Any) -> DecodedPicture:
        """Take the next picture in display order.

        Parameters
        ----------
        picture : av.VideoFrame or SurfacePicture
            The picture.

        Returns
        -------
        DecodedPicture
            The picture with the damage around it.
        """
        number = self._number_of(picture)
        sent = self._sent.pop(number, None)
        if self._first is None:
            self._first, self._first_time = number, sent.time if sent else None
        lost = self._due + self._lost_before(number, sent.time if sent else None)
        self._due = 0
        if sent is not None:
            lost += self._gap_before(number, sent, lost)
        self.lost += lost
        # MPEG-4 decoders make up a picture before the first keyframe, and show the real one later
        early = sent.early if sent else self._begun_at is None or number < self._begun_at
        if early:
            self.extra += 1
            return DecodedPicture(picture, lost)
        self.complete += 1
        if sent is not None and not sent.expected:
            self.silent -= 1  # it replaces the picture of another packet
        is_key = sent.is_key if sent and self._keys_from_packets else picture.key_frame
        if picture.is_corrupt:
            self.concealed += 1
            self._hurt(number)
        elif is_key:
            self._heal(number)
        damaged = self._is_hurt(number)
        self.damaged += damaged
        return DecodedPicture(picture, lost, damaged)

    def end(self) -> int:
        """Stop waiting for pictures; return how many are lost by damage."""
        lost = self._due + sum(self._drop(number) for number in list(self._sent))
        self._due = 0
        self.lost += lost
        return lost

    def _hurt(self, number: int) -> None:
        """Record damage at a packet, unless a later keyframe has ended its effect."""
        if number >= self._healed and all(last < number for _, last in self._unhealed):
            self._unhealed.append((number, number))

    def _heal(self, number: int) -> None:
        """Drop damage before a keyframe; pictures that are still awaited stay suspect."""
        for other, sent in self._sent.items():
            sent.suspect = sent.suspect or (other < number and self._is_hurt(other))
        self._unhealed = [(first, last) for first, last in self._unhealed if last >= number]
        self._healed = number

    def _is_hurt(self, number: int) -> bool:
        return any(first <= number for first, _ in self._unhealed)

    def _number_of(self, picture: Any) -> int:
        if isinstance(picture.opaque, int):
            return picture.opaque
        if picture.pts in self._numbers:
            return self._numbers[picture.pts]
        return next(iter(self._sent), self.number)

    def _time(self, pts: int | None) -> tuple[int, int] | None:
        return None if pts is None else (self._epoch, pts)

    def _lost_before(self, number: int, time: tuple[int, int] | None) -> int:
        """Return the number of pictures near damage that should have come before this one."""
        gone = []
        for other, sent in self._sent.items():
            if not (sent.suspect or self._is_hurt(other)):
                continue
            if self._in_order and time is not None and sent.time is not None:
                is_gone = sent.time < time
            else:
                is_gone = other < number - (0 if sent.refused else REORDER)
            if is_gone:
                gone.append(other)
        return sum(self._drop(other) for other in gone)

    def _gap_before(self, number: int, sent: _SentPacket, lost: int) -> int:
        """Return the number of missing pictures by a gap of timestamps, near damage."""
        if not self._in_order:
            return 0
        before, self._last = self._last, sent.time
        if before is None or sent.time is None or before[0] != sent.time[0]:
            return 0
        step, usual = sent.time[1] - before[1], max(self._steps, default=0)
        for doubt in [n for n in self._doubts if n < number - REORDER]:
            del self._doubts[doubt]
        if not usual or step <= 1.5 * usual:
            if step > 0:
                self._steps.append(step)
            return 0
        gap = round(step / usual) - 1
        # pictures that are still awaited lie in the gap
        gap -= sum(before < (s.time or before) < sent.time for s in self._sent.values())
        for doubt, misread in self._doubts.items():
            # packets are also marked where two recordings meet, and nothing is lost there
            if misread or (gap <= LONGEST_GAP and not sent.is_key):
                del self._doubts[doubt]
                self._hurt(doubt - misread)  # misread data lies before the packet
                return max(0, gap - lost)
        if self._unhealed and gap <= LONGEST_GAP:
            return max(0, gap - lost)
        return 0

    def _drop(self, number: int) -> int:
        """Stop waiting for the picture of a packet; return how many are lost by damage."""
        sent = self._sent.pop(number)
        if not sent.expected:
            return 0
        if sent.suspect or self._is_hurt(number):
            self._hurt(number)
            return sent.frames
        if self._waits and self._is_before_first(number, sent.time):
            self.unready += 1
            self.expected -= 1
        else:
            self.silent += 1
        return 0

    def _is_before_first(self, number: int, time: tuple[int, int] | None) -> bool:
        """Tell whether a packet comes before the first picture, in coded or in display order."""
        if self._first is None or number < self._first:
            return True
        if not self._in_order or time is None or self._first_time is None:
            return False
        return time < self._first_time
