"""Demuxer -> decoded pictures in display order with raw timestamps, and the damage among them.

A frame is damaged if it is

- *missing*: the decoder refused its packet, or the file lost the packet, as shown by the frame
  numbers of H.264, the index of AVI or, near other damage, a gap of timestamps;
- *concealed*: the decoder reports that it made up a part of it (``concealed_frames``);
- *doubtful*: the demuxer marked its packet as corrupt, or it is predicted from a damaged frame,
  with no keyframe between.

Decoding goes on after such damage. A video is damaged, and a DecodeError ``corrupt`` is kept, if

- more than `max_damaged` of its frames, and more than `FEW` frames unless that is 0, are damaged;
- the file is shorter than its own outermost structure states, and its video ends early, or reading
  failed before the end;
- more than a tenth of the packets (and more than `FEW`) have no picture, without any error.

Smaller damage is noted, with counts: ``damaged_frames``, of which ``concealed_frames``;
``lost_frames``, missing ones; ``corrupt_packets``; ``shorter_than_declared``, if the header
declares over a second and a tenth beyond the end; ``fewer_frames_than_declared``, in AVI.

Packets without a picture are no damage: parameter sets, messages, filler, placeholders of MPEG-4.
Neither are packets before the first keyframe or IDR picture (``undecodable_start``).

Wrong bits that decode to a legal picture are not detected. Most flipped bits are of this kind in
VP8, VP9, HEVC and JPEG, which have little redundancy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import av

from flowpipe.errors import DecodeError, TooDamagedError
from flowpipe.surfaces import SurfaceOps
from flowpipe.video.avi_index import AviIndex
from flowpipe.video.damage import DamageTracker, DecodedPicture
from flowpipe.video.decoders import open_decoder
from flowpipe.video.demuxer import Demuxer, brief
from flowpipe.video.head import PLACEHOLDER_BYTES, is_of_storage, read_head
from flowpipe.video.joins import clear_join_corruption
from flowpipe.video.nal import NalReader
from flowpipe.video.truncation import count_missing_bytes
from flowpipe.words import count_noun

MAX_DAMAGED = 0.01
"""Largest share of damaged frames in a good video."""
FEW = 2
"""Number of damaged frames that is always allowed, unless none are."""
ONE_FOR_ONE = ("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video", "mjpeg")
"""Codecs in which every packet has a picture."""
READ_ERRORS = 100
"""Largest number of read errors after which reading goes on."""
WAY_OUT = "fetch the file again"


class PictureReader:
    """One pass over a video. Iterate once; afterwards ``damage`` and ``notes`` are complete.

    Parameters
    ----------
    source : Demuxer
        Closed with this object, and by an error of the constructor.
    decoder : str
        Key of `DECODERS`.
    start_s : float, optional
        Time of the first wanted picture, seconds. Decoding starts at a keyframe before it if the
        file is seekable, else at the start; earlier pictures are yielded too.
    max_damaged : float
        Share of damaged frames above which the video is damaged; 1 for never, 0 for any.
    stop_at_damage : bool
        End before the first damaged frame, and keep an error.
    surfaces : SurfaceOps, optional
        Device on which the decoder may leave pictures.
    """

    def __init__(
        self,
        source: Demuxer,
        decoder: str = "cpu",
        start_s: float | None = None,
        *,
        max_damaged: float = MAX_DAMAGED,
        stop_at_damage: bool = False,
        surfaces: SurfaceOps | None = None,
    ) -> None:
        self.source = source
        self._open = partial(open_decoder, decoder, surfaces=surfaces)
        try:
            self.decoder = self._open(source)
        except BaseException:
            source.close()
            raise
        self.start_s = start_s
        self._max_damaged, self._stop = max_damaged, stop_at_damage
        self.notes: Counter[str] = Counter()
        self.damage: DecodeError | None = None
        self.origin_s: float | None = None
        """Earliest timestamp of the stream, None if there is none at its start."""
        self.lost_at_end = 0
        """Number of pictures lost after the last one."""
        in_order = not (source.decoding_times and source.reorders)
        keys = decoder != "cpu"
        self._track = DamageTracker(source.codec, in_order=in_order, keys_from_packets=keys)
        self._units = NalReader(source.codec, source.context.extradata or b"")
        self._index = AviIndex(source.stream) if source.format == "avi" else None
        # packets and pictures before the first keyframe, or before `start_s`, are ignored
        self._begun = False
        self._floor: int | None = None
        self._early = self._count = self._packets = self._read_errors = 0
        self._last_s = 0.0
        self._by_dts = decoder == "cpu" and source.decoding_times and source.reorders
        self._shown_dts: int | None = None
        self._last_dts: int | None = None
        self._refusal: Exception | None = None
        self._complaints = av.logging.get_last_error()[0]
        self._first_damage = ""

    def close(self) -> None:
        """Release the decoder and the file."""
        try:
            self.decoder.close()
        finally:
            self.source.close()

    def __iter__(self) -> Iterator[tuple[float | None, DecodedPicture]]:
        """Yield (timestamp in seconds or None, picture with the damage around it)."""
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
                pictures = self._decode(packet)
            except EOFError:
                break  # the decoder has been flushed
            except DecodeError as error:
                failure = error
                break
            if is_last and self._ends_early(pictures):
                pictures = self._drop_after_holes(pictures)
            for picture in pictures:
                pts_s, shown = self._take(picture)
                if self._stop and self._first_damage:
                    self.damage = self.source.storage_failure() or self._stopped_error()
                    return
                yield pts_s, shown
        if failure is not None:
            yield from self._drain_decoder()
        self._conclude(failure)

    def _decode(self, packet: Any) -> list[Any]:
        """Return the pictures that are ready after a packet; record errors of the decoder."""
        try:
            pictures = self.decoder.decode(packet)
        except (av.error.FFmpegError, OSError) as error:
            if isinstance(error, EOFError):
                raise
            self._refusal = error
            self._track.refuse()
            pictures = []
        complaint = self._complaint()
        if complaint:
            self._track.complain(complaint)
        return pictures

    def _complaint(self) -> str:
        """Return FFmpeg's latest error since the last call; empty if there is none."""
        count, latest = av.logging.get_last_error()
        if self.source.threads != 1 or latest is None or count == self._complaints:
            return ""
        self._complaints = count
        return str(latest[2])

    def _read(self) -> Iterator[Any]:
        """Yield the packets from the start, or from a keyframe well before `start_s`."""
        packets = self._packets_behind_damage()
        head, self.origin_s, failure = read_head(self.source, packets)
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
            self.decoder = self._open(self.source)
            if self._index is not None:
                self._index = AviIndex(self.source.stream)
        else:
            # pictures of the first group only warm up the decoder
            self._floor, self._begun = self.source.timestamp(self.start_s), True
            yield landed
        yield from self._packets_behind_damage()

    def _packets_behind_damage(self) -> Iterator[Any]:
        """Yield the packets of the source; go on after data that the demuxer cannot parse."""
        while True:
            try:
                yield from clear_join_corruption(self.source.packets())
                return
            except av.error.InvalidDataError:
                self._read_errors += 1
                if self._read_errors > READ_ERRORS:
                    raise

    def _check_packet(self, packet: Any) -> None:
        if packet.is_corrupt:
            self.notes["corrupt_packets"] += 1
            if self._missing_bytes:
                raise OSError(f"the file is {count_noun(self._missing_bytes, 'byte')} short")
        if not packet.size:
            return
        self._packets += 1
        misread = bool(self._complaint())
        if self._index is not None:
            skipped = self._index.count_skipped(packet)
            if self._index.shift:
                packet.pts = None if packet.pts is None else packet.pts + self._index.shift
                packet.dts += self._index.shift
            if skipped:
                self._track.skip(skipped)
        placeholder = self.source.codec == "mpeg4" and packet.size < PLACEHOLDER_BYTES
        if packet.is_keyframe and not self._begun and not placeholder:
            self._floor, self._begun = packet.pts, True
        early = not self._begun or (
            None not in (self._floor, packet.pts) and packet.pts < self._floor
        )
        holds, missing = self._units.read(bytes(packet), is_key=packet.is_keyframe)
        if missing and self._begun:
            self._track.miss(missing if packet.pts is None else 0)
        shows = holds and not placeholder and not packet.is_discard
        self._early += early and shows
        packet.opaque = self._track.send(packet, expected=shows, early=early, misread=misread)
        if packet.dts is not None:
            self._last_dts = packet.dts

    def _take(self, picture: Any) -> tuple[float | None, DecodedPicture]:
        shown = self._track.show(picture)
        pts_s = self.source.seconds(picture.pts)
        if (shown.lost or shown.damaged) and not self._first_damage:
            at_s = self._last_s if pts_s is None else pts_s
            self._first_damage = f"at frame {self._count}, {at_s:.3f} s{self.source.messages()}"
        self._count += 1
        if picture.interlaced_frame:
            self.notes["interlaced"] += 1
        if pts_s is not None:
            self._last_s = max(self._last_s, pts_s)
        return self._time_s(picture), shown

    def _time_s(self, picture: Any) -> float | None:
        """Return the time of a picture as ffprobe does.

        AVI and ASF have decoding times only, and FFmpeg makes up timestamps in coded order. The
        time of a picture is the decoding time of the packet at which the decoder returned it.
        Pictures that are flushed at the end follow at the frame interval.
        """
        if not self._by_dts:
            return self.source.seconds(picture.pts)
        dts = picture.dts
        if dts is None and self._shown_dts is not None:
            dts = self._shown_dts + self.source.step
        time_s = self.source.seconds(dts)
        if self._shown_dts is None and self.start_s is None:
            self.origin_s = time_s
        self._shown_dts = dts
        return time_s

    def _drain_decoder(self) -> Iterator[tuple[float | None, DecodedPicture]]:
        """Yield the pictures that the decoder holds after a failure; they precede the damage."""
        try:
            pictures = self.decoder.flush()
        except (DecodeError, av.error.FFmpegError, OSError):
            return
        for picture in self._drop_after_holes(pictures):
            yield self._take(picture)

    def _drop_after_holes(self, pictures: list[Any]) -> list[Any]:
        """Drop pictures whose predecessors in display order lie behind the end of the file.

        Their timestamps are later than the decoding time of the last good packet.
        """
        limit = self._last_dts
        return [
            picture
            for picture in pictures
            if not picture.is_corrupt
            and (limit is None or picture.pts is None or picture.pts <= limit)
        ]

    def _ends_early(self, rest: list[Any]) -> bool:
        """Return whether the file and its video end early; `rest` are its last pictures."""
        times = [self.source.seconds(picture.pts) for picture in rest]
        last_s = max([self._last_s, *(time for time in times if time is not None)])
        missing_s = self.source.declared_end_s - last_s - self.source.step_s
        return self._missing_bytes > 0 and missing_s > self.source.step_s / 2

    def _stopped_error(self) -> DecodeError:
        return DecodeError(
            f"{self.source.path}: decoding stopped at damage {self._first_damage}; {WAY_OUT}",
            reason="corrupt",
        )

    def _conclude(self, failure: Exception | None) -> None:
        """Set `damage` and `notes` at the end of decoding."""
        path, count, track = self.source.path, self._count, self._track
        self.lost_at_end = track.end()
        for note, frames in (
            ("lost_frames", track.lost),
            ("damaged_frames", track.damaged),
            ("concealed_frames", track.concealed),
        ):
            if frames:
                self.notes[note] = frames
        if failure is None and not count:
            failure = self._refusal
        if (storage := self.source.storage_failure()) is not None:
            self.damage = storage
        elif isinstance(failure, DecodeError):
            self.damage = failure
        elif is_of_storage(failure):
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
        """Check for missing and damaged pictures although decoding ended normally."""
        path, count, track = self.source.path, self._count, self._track
        undecodable = self._early - track.extra + track.unready
        if undecodable > 0 and self.start_s is None:
            self.notes["undecodable_start"] = undecodable
        declared_s = self.source.declared_end_s
        missing_s = declared_s - self._last_s - self.source.step_s
        if missing_s > max(1.0, 0.1 * declared_s):
            self.notes["shorter_than_declared"] = 1
        if self._index is not None and self.start_s is None:
            fewer = self._index.declared - self._packets
            if fewer > 0:
                self.notes["fewer_frames_than_declared"] = fewer
        # a packet may be one field
        countable = self.source.codec in ONE_FOR_ONE and not self.notes["interlaced"]
        silent = track.silent if countable else 0
        damaged = track.lost + track.damaged
        frames = track.complete + track.lost
        allowed = self._max_damaged and max(FEW, self._max_damaged * frames)
        if self._ends_early([]):
            self.damage = DecodeError(
                f"{path}: the file is {count_noun(self._missing_bytes, 'byte')} short and ends at "
                f"frame {count}, {self._last_s:.3f} s of {declared_s:.3f} s; {WAY_OUT}",
                reason="corrupt",
            )
        elif silent > max(FEW, 0.1 * track.expected):
            self.damage = TooDamagedError(
                f"{path}: only {count_noun(track.complete, 'frame')} came out of "
                f"{count_noun(track.expected, 'packet')}{self.source.messages()}; {WAY_OUT}",
                reason="corrupt",
            )
        elif self._stop and self.lost_at_end:
            self._first_damage = self._first_damage or f"at frame {count}, {self._last_s:.3f} s"
            self.damage = self._stopped_error()
        elif not self._stop and damaged > allowed:
            first = self._first_damage or f"at frame {count}, {self._last_s:.3f} s"
            self.damage = TooDamagedError(
                f"{path}: {track.lost} of {frames} frames are missing and {track.damaged} may be "
                f"wrong, the first {first}; {WAY_OUT}",
                reason="corrupt",
            )
        if silent > 0:
            self.notes["lost_frames"] += silent

    @cached_property
    def _missing_bytes(self) -> int:
        return count_missing_bytes(self.source.path)
