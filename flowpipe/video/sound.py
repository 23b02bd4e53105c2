"""Video file -> its sound: mono samples at one rate, with times on the clock of the frames."""

from __future__ import annotations

import contextlib
import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DecodeError
from flowpipe.video.demuxer import Demuxer
from flowpipe.video.timestamps import MAX_GAP_S, Timeline

TOLERANCE_S = 0.010
"""Largest difference between a timestamp and the time counted in samples, seconds. Containers round
timestamps; beyond it there is a gap in the sound, or an overlap."""
BACK_S = 1.0
"""Largest overlap of two packets, seconds. A timestamp that lies further back is wrong."""
LOOK_AHEAD_S = 2.0
"""Largest distance in the file between sound and pictures of the same time, seconds of sound."""


@dataclass(frozen=True)
class Sound:
    """Consecutive samples."""

    run_s: float
    """Time of the first sample of the run that the samples belong to, seconds."""
    offset: int
    """Number of samples of the run before these."""
    samples: NDArray[np.float32]
    """Mean of the channels, (n,), full scale is 1."""


class SoundReader:
    """One pass over the sound of a video; iterate over it once.

    Samples between two gaps are one run: they are resampled together. Where the timestamps of sound
    and pictures jump together, as in joined files, both are shifted by the same time. Damaged
    packets, gaps and wrong timestamps are counted in `notes`.

    Parameters
    ----------
    path : str
        Video file.
    rate_hz : int
        Rate of the samples, Hz.
    track : int, optional
        Index of the stream of sound to decode, as in ffprobe. None chooses the first one with the
        default disposition, else the first one.
    video_stream : int, optional
        Index of the video stream that the recipe asks for.

    Attributes
    ----------
    notes : Counter
        Codes of irregularities, see `flowpipe.notes`.
    """

    def __init__(
        self, path: str, rate_hz: int, track: int | None = None, video_stream: int | None = None
    ) -> None:
        self._path, self._rate_hz, self._track, self._video = path, rate_hz, track, video_stream
        self.notes: Counter[str] = Counter()
        self._shift_s = 0.0
        self._next_s: float | None = None  # end of the sound so far
        self._resampler: Any = None
        self._kind: tuple[Any, ...] = ()
        self._run_s, self._fed_s, self._made = 0.0, 0.0, 0  # start; into and out of the resampler
        self._decoded_s = self._taken_s = 0.0  # lengths of sound: decoded, and taken from those
        self._jumps: deque[tuple[float, float]] = deque()  # of pictures: _decoded_s, and shift

    def __iter__(self) -> Iterator[Sound]:
        with Demuxer(self._path, stream=self._video) as source:
            stream = self._choose(source)
            if stream is None:
                return
            if stream.codec_context is None:
                self.notes["audio_undecodable"] = 1
                return
            for frame in self._look_ahead(self._frames(source, stream)):
                if frame is None:  # damage: what follows is placed by its timestamp
                    yield from self._end_run()
                else:
                    yield from self._resample(frame, stream)
            yield from self._end_run()
            if self._next_s is None:
                self.notes["no_audio"] = 1

    def _choose(self, source: Demuxer) -> Any:
        """Return the stream of sound; None if the file has none."""
        streams = list(source.container.streams.audio)
        if self._track is not None:
            found = [s for s in streams if s.index == self._track]
            if streams and not found:
                known = ", ".join(str(s.index) for s in streams)
                raise DecodeError(
                    f"{self._path}: stream {self._track} is no stream of sound (audio.track of the "
                    f"recipe); its streams of sound: {known}",
                    reason="no_track",
                )
            streams = found + [s for s in streams if s not in found]
        if not streams:
            self.notes["no_audio"] = 1
            return None
        chosen = streams[0]
        if self._track is None:
            default = av.stream.Disposition.default
            chosen = next((s for s in streams if s.disposition & default), chosen)
        if len(streams) > 1:
            self.notes["audio_tracks"] = len(streams)
            self.notes["audio_track"] = chosen.index
        return chosen

    def _frames(self, source: Demuxer, stream: Any) -> Iterator[Any]:
        """Yield decoded frames, and None for damaged packets; watch the pictures' timestamps."""
        pictures: Timeline[None] = Timeline(source.step_s, source.steady_end_s)
        while True:
            try:
                for packet in source.container.demux(stream, source.stream):
                    if packet.stream.index != stream.index:
                        self._watch(pictures, source.seconds(packet.pts))
                        continue
                    try:
                        yield from packet.decode()
                    except (av.error.FFmpegError, ValueError):
                        self.notes["audio_damaged"] += 1
                        yield None
                return
            except IndexError:  # of a stream that appeared after the file was opened
                continue
            except (av.error.FFmpegError, OSError) as error:
                failure = source.storage_failure()
                if failure is not None:
                    raise failure from error
                self.notes["audio_damaged"] += 1
                return

    def _watch(self, pictures: Timeline[None], pts_s: float | None) -> None:
        """Keep the shift of the pictures if their timestamps jump."""
        before_s = pictures.shift_s
        if pts_s is not None:
            pictures.place(pts_s)
        if pictures.shift_s != before_s:
            while self._jumps and self._jumps[0][0] < self._taken_s - LOOK_AHEAD_S:
                self._jumps.popleft()
            self._jumps.append((self._decoded_s, pictures.shift_s))

    def _look_ahead(self, frames: Iterator[Any]) -> Iterator[Any]:
        """Yield frames when the pictures of the same time have been read, too."""
        held: deque[Any] = deque()
        for frame in frames:
            held.append(frame)
            self._decoded_s += _length_s(frame)
            while self._decoded_s - self._taken_s > LOOK_AHEAD_S:
                yield self._take(held)
        while held:
            yield self._take(held)

    def _take(self, held: deque[Any]) -> Any:
        self._taken_s += _length_s(held[0])
        return held.popleft()

    def _resample(self, frame: Any, stream: Any) -> Iterator[Sound]:
        """Resample a frame, in a new run where it does not follow the one before."""
        if not frame.samples or not frame.sample_rate:
            return
        base = frame.time_base or stream.time_base
        pts_s = None if frame.pts is None or not base else float(frame.pts * base)
        time_s, is_gap = self._place(pts_s)
        kind = frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate
        if is_gap or kind != self._kind or self._resampler is None:
            yield from self._end_run()
            # Not "fltp": PyAV reads planes that do not exist behind those of eight channels.
            self._resampler = av.AudioResampler("flt", frame.layout, self._rate_hz)
            self._kind, self._run_s, self._fed_s, self._made = kind, time_s, 0.0, 0
        self._fed_s += _length_s(frame)
        self._next_s = self._run_s + self._fed_s
        frame.pts = None  # else the resampler would treat gaps by a rule of its own
        try:
            made = self._resampler.resample(frame)
        except (av.error.FFmpegError, ValueError):
            self.notes["audio_damaged"] += 1
            yield from self._end_run()
        else:
            yield from self._mix(made)

    def _place(self, pts_s: float | None) -> tuple[float, bool]:
        """Return the time of a frame, seconds, and whether there is a gap or overlap before it."""
        if self._next_s is None:
            return pts_s or 0.0, False
        if pts_s is None:
            return self._next_s, False
        ahead_s = pts_s + self._shift_s - self._next_s
        if not -BACK_S <= ahead_s <= MAX_GAP_S:
            self.notes["audio_jumps"] += 1
            self._shift_s -= ahead_s
            ahead_s = self._follow_pictures(pts_s, self._next_s)
        is_gap = abs(ahead_s) > TOLERANCE_S
        if is_gap:
            self.notes["audio_gaps"] += 1
        return self._next_s + ahead_s, is_gap

    def _follow_pictures(self, pts_s: float, next_s: float) -> float:
        """Shift like the pictures if they jump too; return the gap before the frame, seconds."""
        near = [(abs(at_s - self._taken_s), shift_s) for at_s, shift_s in self._jumps]
        distance_s, shift_s = min(near, default=(math.inf, 0.0))
        ahead_s = pts_s + shift_s - next_s
        if distance_s > LOOK_AHEAD_S or abs(ahead_s) > MAX_GAP_S:
            return 0.0
        self._shift_s = shift_s
        return ahead_s

    def _end_run(self) -> Iterator[Sound]:
        """Yield the samples that the resampler still holds, and close it."""
        if self._resampler is not None:
            resampler, self._resampler = self._resampler, None
            with contextlib.suppress(av.error.FFmpegError, ValueError):
                yield from self._mix(resampler.resample(None))

    def _mix(self, frames: list[Any]) -> Iterator[Sound]:
        for frame in frames:
            # Values outside full scale are clipped, as by a player.
            channels = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
            mono = channels.mean(1, dtype=np.float32).clip(-1, 1)
            if len(mono):
                mono[np.isnan(mono)] = 0
                yield Sound(self._run_s, self._made, mono)
                self._made += len(mono)


def _length_s(frame: Any) -> float:
    """Return the length of a frame, seconds; 0 for damage."""
    return frame.samples / frame.sample_rate if frame is not None and frame.sample_rate else 0.0
