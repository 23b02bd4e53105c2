"""Source -> decoded pictures in showing order with their raw timestamps, and the damage met.

What counts as damage
---------------------
The pictures before the damage are yielded, and a DecodeError ``corrupt`` is kept, when

- the decoder refuses a packet, or a read fails before the end of the file;
- the file is shorter than its own outermost structure says, and its video ends early;
- more than a tenth of the packets (and more than two) give no picture, without any complaint.

Not damage, but noted, with counts: pictures that the decoder conceals (``concealed_frames``),
packets marked as broken (``corrupt_packets``), fewer lost packets than above (``lost_frames``),
packets without a picture before the first keyframe, as in a recording that starts between two
(``undecodable_start``), and a header that promises over a second and a tenth more than there is
(``shorter_than_declared``): in AVI, counts and durations are often wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import av

from flowpipe.errors import DecodeError, read_reason
from flowpipe.video.decoders import open_decoder
from flowpipe.video.source import Source, brief
from flowpipe.video.truncation import missing_bytes

START_PACKETS = 64
"""Packets read ahead to find the earliest timestamp; a reordering decoder holds 16 back at most."""
ONE_FOR_ONE = ("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video", "mjpeg")
"""Codecs of which every packet shows a picture."""
PLACEHOLDER_BYTES = 16
"""A shorter MPEG-4 packet says that the last picture stays."""
WAY_OUT = "fetch the file again, or extract what is good with --on-error partial"


def _is_the_storages(failure: Exception | None) -> bool:
    """Whether an error is the operating system's own, of a file that it could not read."""
    if isinstance(failure, av.error.FFmpegError) or not isinstance(failure, OSError):
        return False
    return read_reason(failure) == "io"


class Pictures:
    """One pass over a source. Iterate once; afterwards ``damage`` and ``notes`` are complete.

    Parameters
    ----------
    source : Source
        Closed with this object, and by an error of the constructor.
    decoder : str
        One of `DECODERS`.
    start_s : float, optional
        Time from which pictures are wanted. Decoding starts at a keyframe before it where the file
        can be sought, else at the start; so earlier pictures come out too.
    """

    def __init__(self, source: Source, decoder: str = "cpu", start_s: float | None = None) -> None:
        self.source = source
        try:
            self.decoder = open_decoder(decoder, source)
        except BaseException:
            source.close()
            raise
        self._decoder_name = decoder
        self.start_s = start_s
        self.notes: Counter[str] = Counter()
        self.damage: DecodeError | None = None
        self.origin_s: float | None = None
        """Earliest timestamp of the stream, None if there is none at its start."""
        self._packets = 0
        self._early = 0
        # packets and pictures before the first keyframe, or before `start_s`, are not compared
        self._floor: int | None = None
        self._complete = 0
        self._refused = 0
        self._count = 0
        self._last_s = 0.0
        self._by_dts = decoder == "cpu" and source.counts_frames and source.reorders
        self._shown_dts: int | None = None
        self._last_dts: int | None = None

    def close(self) -> None:
        """Release the decoder and the file."""
        self.decoder.close()
        self.source.close()

    def __iter__(self) -> Iterator[tuple[float | None, Any]]:
        """Yield (timestamp in seconds or None, `av.VideoFrame`)."""
        failure: Exception | None = None
        packets = self._read()
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                self._check_packet(packet)
            except (av.error.FFmpegError, OSError) as error:
                failure = error
                break
            is_last = not packet.size  # a decoder may take the packet's bytes away
            try:
                pictures = self.decoder.decode(packet)
                if is_last and self._cut_off(pictures):
                    pictures = self._without_holes(pictures)
            except EOFError:
                break  # the decoder has been flushed
            except DecodeError as error:
                failure = error
                break
            except (av.error.FFmpegError, OSError) as error:
                failure = error
                if self._count:
                    break
                self._refused += 1
                continue
            for picture in pictures:
                failure = None
                yield self._take(picture)
        if failure is not None:
            yield from self._held_back()
        self._conclude(failure)

    def _read(self) -> Iterator[Any]:
        """Packets from the start, or from a keyframe well before `start_s`."""
        packets = self.source.packets()
        head, failure = self._read_head(packets)
        if self.start_s is None or self.origin_s is None or self.start_s <= self.origin_s:
            yield from head
            if failure is not None:
                raise failure
            yield from packets
            return
        landed = self.source.seek_before(self.start_s)
        if landed is None:
            self.decoder.close()
            self.source = self.source.reopen()
            self.decoder = open_decoder(self._decoder_name, self.source)
        else:
            # a group of pictures earlier serves to warm up only
            self._floor = self.source.timestamp(self.start_s)
            yield landed
        yield from self.source.packets()

    def _read_head(self, packets: Iterator[Any]) -> tuple[list[Any], Exception | None]:
        """Read packets until the earliest timestamp is certain."""
        head: list[Any] = []
        lowest: int | None = None
        try:
            for packet in packets:
                head.append(packet)
                if self._repeats_first(head):
                    head[0].pts += 1
                    lowest = head[0].pts
                    self.origin_s = self.source.seconds(lowest)
                    continue
                if packet.pts is not None and not packet.is_discard:
                    lowest = packet.pts if lowest is None else min(lowest, packet.pts)
                    self.origin_s = self.source.seconds(lowest)
                if not packet.size or len(head) == START_PACKETS:
                    break
                # no picture is shown before it is decoded, so nothing earlier can follow
                if lowest is not None and packet.dts is not None and packet.dts >= lowest:
                    break
        except (av.error.FFmpegError, OSError) as error:
            return head, error
        return head, None

    def _repeats_first(self, head: list[Any]) -> bool:
        """Tell whether only placeholders follow the first packet, which then is shown later.

        FFmpeg's decoder puts the first picture out behind them.
        """
        source = self.source
        return (
            source.counts_frames
            and source.reorders
            and source.codec == "mpeg4"
            and 1 < len(head) < START_PACKETS
            and head[0].pts is not None
            and all(0 < packet.size < PLACEHOLDER_BYTES for packet in head[1:])
        )

    def _check_packet(self, packet: Any) -> None:
        if packet.is_corrupt:
            self.notes["corrupt_packets"] += 1
            if self._missing_bytes:
                raise OSError(f"the file is {self._missing_bytes} bytes short")
        placeholder = self.source.codec == "mpeg4" and packet.size < PLACEHOLDER_BYTES
        if packet.is_keyframe and self._floor is None and packet.pts is not None:
            self._floor = packet.pts
        if not packet.size or placeholder or packet.is_discard:
            pass
        elif self._floor is None or (packet.pts or 0) < self._floor:
            self._early += 1
        else:
            self._packets += 1
        if packet.dts is not None:
            self._last_dts = packet.dts

    def _take(self, picture: Any) -> tuple[float | None, Any]:
        self._count += 1
        if picture.is_corrupt:
            self.notes["concealed_frames"] += 1
        if picture.interlaced_frame:
            self.notes["interlaced"] += 1
        if picture.pts is None or self._floor is None or picture.pts >= self._floor:
            self._complete += 1
        pts_s = self.source.seconds(picture.pts)
        if pts_s is not None:
            self._last_s = max(self._last_s, pts_s)
        return self._time_s(picture), picture

    def _time_s(self, picture: Any) -> float | None:
        """Return the time of a picture as ffprobe does.

        AVI has no timestamps: FFmpeg makes them up in coded order. The time of a picture is the
        decoding time of the packet at which it came out; those that the decoder holds back at the
        end follow, a frame apart.
        """
        if not self._by_dts:
            return self.source.seconds(picture.pts)
        dts = picture.dts
        if dts is None and self._shown_dts is not None:
            dts = self._shown_dts + 1  # AVI counts frames
        time_s = self.source.seconds(dts)
        if self._shown_dts is None and self.start_s is None:
            self.origin_s = time_s
        self._shown_dts = dts
        return time_s

    def _held_back(self) -> Iterator[tuple[float | None, Any]]:
        """Pictures that the decoder still holds after a failure: they are older than the damage."""
        try:
            pictures = self.decoder.flush()
        except (DecodeError, av.error.FFmpegError, OSError):
            return
        for picture in self._without_holes(pictures):
            yield self._take(picture)

    def _without_holes(self, pictures: list[Any]) -> list[Any]:
        """Leave out pictures that others, which lie behind the damage, are to be shown before.

        Those others are decoded, and so shown, later than the last packet that came through.
        """
        limit = self._last_dts
        return [
            picture
            for picture in pictures
            if not picture.is_corrupt
            and (limit is None or picture.pts is None or picture.pts <= limit)
        ]

    def _cut_off(self, rest: list[Any]) -> bool:
        """Tell whether the file, and its video, end early; `rest` are its last pictures."""
        times = [self.source.seconds(picture.pts) for picture in rest]
        last_s = max([self._last_s, *(time for time in times if time is not None)])
        missing_s = self.source.declared_end_s - last_s - self.source.step_s
        return self._missing_bytes > 0 and missing_s > self.source.step_s / 2

    def _conclude(self, failure: Exception | None) -> None:
        """Decide what the end of decoding means."""
        path, count = self.source.path, self._count
        if (storage := self.source.storage_failure()) is not None:
            self.damage = storage
        elif isinstance(failure, DecodeError):
            self.damage = failure
        elif _is_the_storages(failure):
            self.damage = DecodeError(f"{path}: {failure}", reason="io")
        elif failure is not None:
            where = f"at frame {count}, {self._last_s:.3f} s" if count else "before the first frame"
            self.damage = DecodeError(
                f"{path}: decoding stopped {where}: {brief(failure)}{self.source.messages()}; "
                + WAY_OUT,
                reason="unsupported" if isinstance(failure, NotImplementedError) else "corrupt",
            )
        elif not count:
            self.damage = DecodeError(
                f"{path}: its video stream decodes to no frame{self.source.messages()}",
                reason="no_frames",
            )
        else:
            self._check_end()

    def _check_end(self) -> None:
        """Look for what is missing although decoding ended without complaint."""
        path, count = self.source.path, self._count
        refused = max(self._refused, self._early - (count - self._complete))
        if refused > 0 and self.start_s is None:
            self.notes["undecodable_start"] = refused
        declared_s = self.source.declared_end_s
        missing_s = declared_s - self._last_s - self.source.step_s
        if missing_s > max(1.0, 0.1 * declared_s):
            self.notes["shorter_than_declared"] = 1
        # a packet may be one field; before the first keyframe, and when shown before it, pictures
        # may need others that are not there
        countable = self.source.codec in ONE_FOR_ONE and not self.notes["interlaced"]
        lost = self._packets - self._complete if countable else 0
        if self._cut_off([]):
            self.damage = DecodeError(
                f"{path}: the file is {self._missing_bytes} bytes short and ends at frame {count}, "
                f"{self._last_s:.3f} s of {declared_s:.3f} s; {WAY_OUT}",
                reason="corrupt",
            )
        elif lost > max(2, 0.1 * self._packets):
            self.damage = DecodeError(
                f"{path}: only {self._complete} frames came out of {self._packets} packets"
                f"{self.source.messages()}; {WAY_OUT}",
                reason="corrupt",
            )
        elif lost > 0:
            self.notes["lost_frames"] = lost

    @cached_property
    def _missing_bytes(self) -> int:
        return missing_bytes(self.source.path)
