"""Video file -> Frames: sequential decoding in bounded windows, and facts about the video."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowpipe.errors import DecodeError
from flowpipe.surfaces import SurfaceOps
from flowpipe.types import Damage, Frames, VideoFacts
from flowpipe.video.colour import (
    ColourTags,
    Converter,
    Orientation,
    display_matrix,
    read_colour,
    read_orientation,
)
from flowpipe.video.damage import DecodedPicture
from flowpipe.video.damage_log import DamageLog
from flowpipe.video.decoders import DECODERS
from flowpipe.video.demuxer import Demuxer
from flowpipe.video.pictures import MAX_DAMAGED, PictureReader
from flowpipe.video.stacks import Stack, new_stack
from flowpipe.video.timestamps import TOLERANCE_S, Ticks, Timeline
from flowpipe.video.untimed import time_of_first


@dataclass(frozen=True)
class VideoParams:
    """Frame rate, decoder and stream of a video."""

    fps: float = 0.0
    """Frames per second to resample to by timestamp; 0 keeps every frame."""

    decoder: str = "cpu"
    """Decoder: ``cpu`` for FFmpeg on the cores, ``nvdec`` for a GPU."""

    stream: int | None = field(default=None, metadata={"omit_default": True})
    """Index of the video stream to decode, as in ffprobe. None chooses: no cover or thumbnail, then
    the default disposition, then the most frames, then the largest pictures."""

    def __post_init__(self) -> None:
        if self.stream is not None and self.stream < 0:
            raise ValueError(f"stream must be 0 or more, as ffprobe counts, got {self.stream}")
        if not 0 <= self.fps <= 1000:
            raise ValueError(f"fps must be 0 (every frame) or up to 1000, got {self.fps}")
        if self.decoder not in DECODERS:
            raise ValueError(f"decoder must be {' or '.join(DECODERS)}, got {self.decoder}")


def open_video(
    path: str | os.PathLike[str],
    params: VideoParams = VideoParams(),
    *,
    start_s: float | None = None,
    stop_s: float | None = None,
    threads: int = 1,
    max_damaged: float = MAX_DAMAGED,
    stop_at_damage: bool = False,
    surfaces: SurfaceOps | None = None,
) -> VideoReader:
    """Open a video for sequential decoding.

    Parameters
    ----------
    path : path
        Video file; one of its video streams is read, see `VideoParams`.
    params : VideoParams
        Decoder, stream and frame rate.
    start_s, stop_s : float, optional
        Read only ``start_s <= time < stop_s``, seconds, and the one frame after it that completes
        the last pair. Times are timestamps of the stream, not counted from its first frame. Frames
        and ticks are those of the whole video if both ends are from `cut_points`.
    threads : int
        Threads of the decoder ``cpu``.
    max_damaged : float
        Share of missing or possibly wrong frames, 0..1, above which `VideoReader.windows` ends with
        an error. 1 means never, 0 means any damaged frame. Between the two, one or two damaged
        frames are always allowed.
    stop_at_damage : bool
        End before the first damaged frame instead, with an error.
    surfaces : SurfaceOps, optional
        Device that will resize the frames. The decoder ``nvdec`` may leave frames on it, as
        `flowpipe.surfaces.Surfaces`.

    Returns
    -------
    VideoReader
        Reader of the frames, a context manager.

    Raises
    ------
    DecodeError
        ``missing``, ``empty``, ``unreadable``, ``no_video``, ``unsupported``, ``still_picture``,
        ``encrypted``.
    BackendError
        If the decoder cannot be used in this process.
    """
    return VideoReader(
        PictureReader(
            Demuxer(path, threads=threads, stream=params.stream), params.decoder, start_s,
            max_damaged=max_damaged, stop_at_damage=stop_at_damage, surfaces=surfaces,
        ),
        params, start_s, stop_s,
    )  # fmt: skip


class VideoReader:
    """One pass over a video, opened by `open_video`; a context manager.

    Iterate over `windows` once.

    Parameters
    ----------
    pictures : PictureReader
        Decoded pictures of the stream.
    params : VideoParams
        Decoder, stream and frame rate.
    start_s, stop_s : float or None
        Times to read, seconds, see `open_video`.
    """

    def __init__(
        self,
        pictures: PictureReader,
        params: VideoParams,
        start_s: float | None,
        stop_s: float | None,
    ) -> None:
        self.path = pictures.source.path
        self.params = params
        self.start_s = start_s
        self.stop_s = stop_s
        self.seam = False
        """True if the last yielded frame is the first one after `stop_s`."""
        self._pictures = pictures
        self._timeline: Timeline[Any] = Timeline(
            self._pictures.source.step_s, self._pictures.source.steady_end_s
        )
        self._notes: Counter[str] = Counter()
        self._sizes: dict[tuple[int, int], None] = {}
        self._first: tuple[str, ColourTags, Orientation] | None = None
        self._damage: DecodeError | None = None
        self._tags: dict[tuple[Any, ...], tuple[ColourTags, Orientation]] = {}
        self._begun = False
        self._log = DamageLog()
        self._own = 0
        self._dropped = 0
        self._from_s = self._to_s = 0.0

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the decoder."""
        self._pictures.close()

    def windows(self, max_frames: int = 32, max_bytes: int = 32 << 20) -> Iterator[Frames]:
        """Decode, and yield the frames in order, in windows of one frame size each.

        Parameters
        ----------
        max_frames, max_bytes : int
            Largest size of a window, which has at least one frame. A change of frame size ends a
            window early.

        Yields
        ------
        Frames
            New arrays, or Surfaces, see `open_video`.

        Raises
        ------
        TooDamagedError
            After all frames, if more than `max_damaged` of them are missing or may be wrong.
        DecodeError
            After all good frames: ``corrupt``, ``no_frames``, ``unsupported``, ``timestamps``, or
            ``io`` if the storage failed.
        BackendError
            If NVDEC fails for a reason that does not lie in this video.
        """
        if self._begun:
            raise RuntimeError(f"windows can be iterated over once; open {self.path} again")
        self._begun = True
        converter = Converter()
        stack: Stack | None = None
        times: list[float] = []
        previous: Any = None
        for time_s, picture in self._select():
            try:
                colour, turn = self._read_tags(picture)
            except DecodeError as error:
                self._damage = DecodeError(f"{self.path}: {error}", reason=error.reason)
                break
            width, height = turn.size(picture.width, picture.height)
            is_full = stack is not None and len(stack) == stack.capacity
            if stack is None or is_full or not stack.takes(picture, height, width):
                if stack is not None and times:
                    yield _window(stack, times)
                self._note_size(width, height)
                capacity = max(1, min(max_frames, max_bytes // (height * width * 3)))
                stack = new_stack(picture, height, width, capacity, converter)
                times, previous = [], None
            if picture is previous:
                stack.repeat()
            else:
                try:
                    stack.add(picture, colour, turn)
                except DecodeError as error:
                    self._damage = DecodeError(f"{self.path}: {error}", reason=error.reason)
                    break
            times.append(time_s)
            previous = picture
        previous = picture = None
        if stack is not None and times:
            yield _window(stack, times)
        self._log.end(self._pictures.lost_at_end, self._to_s)
        damage = self._damage or self._pictures.damage
        if damage is not None:
            raise damage

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Frames of the span that are missing or may be wrong; complete when `facts` are."""
        return self._log.runs

    @property
    def facts(self) -> VideoFacts:
        """Facts about the video so far; complete once `windows` has ended or failed.

        ``frames_decoded``, ``frames_dropped`` and ``fps_in`` count frames inside the span, so that
        the counts of a video's parts add up. ``start_s`` is the earliest timestamp of the stream,
        also for a later part.
        """
        source = self._pictures.source
        unknown = "", ColourTags(), Orientation()
        pixel_format, colour, turn = self._first or unknown
        sizes = tuple(self._sizes)
        length_s = self._to_s - self._from_s
        notes = self._notes + self._pictures.notes + self._timeline.notes
        if turn.mirrored:
            notes["mirrored"] = 1
        if turn.skewed:
            notes["rotation_rounded"] = 1
        if turn.unusable:
            notes["display_matrix_unusable"] = 1
        if source.is_cropped:
            notes["container_crop"] = 1
        if not source.square_pixels:
            notes["pixels_not_square"] = 1
        if source.video_streams > 1:
            notes["video_streams"] = source.video_streams
        if source.joined_streams > 1:
            notes["joined_streams"] = source.joined_streams
        return VideoFacts(
            container=source.format,
            codec=source.codec,
            pixel_format=pixel_format,
            decoder=self._pictures.decoder.name,
            width=sizes[0][0] if sizes else 0,
            height=sizes[0][1] if sizes else 0,
            sizes=sizes,
            rotation_deg=turn.rotation_deg,
            colour_matrix=colour.matrix,
            colour_range=colour.range,
            colour_transfer=colour.transfer,
            interlaced=bool(notes["interlaced"]),
            frames_decoded=self._own,
            frames_dropped=self._dropped,
            fps_in=(self._own - 1) / length_s if length_s > 0 else 0.0,
            fps_out=self.params.fps,
            start_s=self._pictures.origin_s or 0.0,
            notes=tuple(
                f"{note}:{count}" if count > 1 else note for note, count in sorted(notes.items())
            )
            + ((f"video_stream:{source.index}",) if source.video_streams > 1 else ()),
        )

    def _select(self) -> Iterator[tuple[float, Any]]:
        """Yield the pictures of the span in order, each with its time to be stored, seconds."""
        pictures = self._timeline.order(self._with_times())
        if self.params.fps:
            yield from self._resample(pictures)
            return
        for time_s, shown in pictures:
            if self.stop_s is not None and time_s >= self.stop_s:
                self.seam = True
                self._log.add(time_s, shown)
                yield time_s, shown.picture
                return
            if self._count_own(time_s):
                self._log.add(time_s, shown)
                self._log.stored += 1
                yield time_s, shown.picture

    def _with_times(self) -> Iterator[tuple[float | None, DecodedPicture]]:
        """Yield pictures with their timestamps; without timestamps, lost frames advance the time.

        If the first picture has no timestamp, its time is determined first.
        """
        first = True
        for pts_s, shown in self._pictures:
            if pts_s is None:
                self._timeline.missing += shown.lost
            if first and pts_s is None:
                source = self._pictures.source
                first_s = time_of_first(source.path, source.index, source.step_s)
                self._pictures.origin_s = first_s
                self._timeline.first_s = first_s or 0.0
            first = False
            yield pts_s, shown

    def _resample(
        self, pictures: Iterator[tuple[float, DecodedPicture]]
    ) -> Iterator[tuple[float, Any]]:
        stop_s = math.inf if self.stop_s is None else self.stop_s
        ticks: Ticks | None = None
        held: tuple[float, Any] | None = None
        ended = (math.inf, DecodedPicture(None))
        for time_s, shown in itertools.chain(pictures, [ended]):
            picture = shown.picture
            if ticks is None:
                if picture is None:
                    return
                if not self._timeline.timed and self._pictures.origin_s is None:
                    self._damage = DecodeError(
                        f"{self.path} has no timestamps, so it cannot be resampled to "
                        f"{self.params.fps:g} frames per second; set fps to 0 to keep every frame",
                        reason="timestamps",
                    )
                    return
                origin_s = time_s if self._pictures.origin_s is None else self._pictures.origin_s
                # the first picture also serves a tick that rounding puts before it
                first_s = max(time_s - TOLERANCE_S, self.start_s or -math.inf)
                ticks = Ticks(origin_s, self.params.fps, first_s)
            if held is not None:
                # the grid ends at the last picture
                until_s = time_s if picture is not None else held[0] + 2 * TOLERANCE_S
                if self._inside(held[0]) and not ticks.shows(held[0], until_s):
                    self._dropped += 1
                for tick_s in ticks.due(until_s):
                    self.seam = tick_s >= stop_s
                    self._log.stored += not self.seam
                    yield tick_s, held[1]
                    if self.seam:
                        return
            if picture is not None and self._count_own(time_s):
                self._log.add(time_s, shown)
            held = time_s, picture

    def _inside(self, time_s: float) -> bool:
        return (self.start_s is None or time_s >= self.start_s) and (
            self.stop_s is None or time_s < self.stop_s
        )

    def _count_own(self, time_s: float) -> bool:
        if not self._inside(time_s):
            return False
        self._own += 1
        self._from_s = time_s if self._own == 1 else self._from_s
        self._to_s = time_s
        return True

    def _read_tags(self, picture: Any) -> tuple[ColourTags, Orientation]:
        key = (
            picture.format.name,
            picture.colorspace,
            picture.color_range,
            display_matrix(picture),
        )
        if key not in self._tags:
            colour = read_colour(picture)
            turn = read_orientation(picture)
            self._notes.update(set(colour.notes) - set(self._notes))
            if self._first is None:
                self._first = picture.format.name, colour, turn
            elif (colour, turn) != self._first[1:]:
                self._notes["colour_or_rotation_change"] += 1
            self._tags[key] = colour, turn
        return self._tags[key]

    def _note_size(self, width: int, height: int) -> None:
        if self._sizes and next(reversed(self._sizes)) != (width, height):
            self._notes["resolution_change"] += 1
        self._sizes[width, height] = None


def _window(stack: Stack, times: list[float]) -> Frames:
    return Frames(stack.frames, np.array(times, np.float64))
