"""Path -> an open video stream: the demuxer and decoder, or a DecodeError with its reason code."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import av.logging
from av.container import InputContainer
from av.video.stream import VideoStream

from flowpipe.errors import DecodeError
from flowpipe.remote import facts_of, is_url, open_place

PLAYLISTS = ("hls", "concat", "dash", "sdp")
"""Formats that name other files or addresses; a video is one file."""


OPEN_OPTIONS: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""Titles that are no UTF-8 must not stop a video; since PyAV 19 they never do."""


class Source:
    """A video file opened for demuxing and decoding. Use as a context manager.

    Parameters
    ----------
    path : path
        One local file, whose name is never read as a pattern or by FFmpeg as a URL; or a URL of
        fsspec, of which what is asked for is fetched: good for headers, slow for whole videos.
    threads : int
        Decoder threads. With 1 the decoder's messages are kept for errors; with more they are not,
        because FFmpeg's threads would have to wait for Python to take them.

    Raises
    ------
    DecodeError
        ``missing``, ``empty``, ``unreadable``, ``no_video`` or ``unsupported``.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        self.path = os.fspath(path)
        self.threads = threads
        # At this level PyAV keeps FFmpeg's last error and prints nothing, through no logger.
        av.logging.set_level(av.logging.PANIC if threads == 1 else None)
        self._messages: deque[str] = deque(maxlen=3)
        self._seen = av.logging.get_last_error()[0]
        self.bytes = self._size()
        self._file: BinaryIO | None = None
        self.container: InputContainer = self._open()
        try:
            self.stream: VideoStream = self._choose_stream()
            self.context = self.stream.codec_context
            if self.context is None:
                raise DecodeError(f"no decoder for the video in {self.path}", reason="unsupported")
            base = self.stream.time_base
            self._base = (base.numerator, base.denominator) if base else None
            self.format: str = self.container.format.name.split(",")[0]
            """Name of the container format, the first of FFmpeg's synonyms."""
            self.video_streams = sum(not is_cover(s) for s in self.container.streams.video)
            """Video streams that are not cover pictures; the first one is decoded."""
            ratio = self.stream.sample_aspect_ratio
            self.square_pixels = not ratio or ratio == 1
            self.context.thread_count = threads
            self.context.thread_type = "NONE" if threads == 1 else "AUTO"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the decoder; PyAV leaks them when left to the collector."""
        self.container.close()
        if self._file is not None:
            self._file.close()

    def reopen(self) -> Source:
        """Close this source and open the same file from its start."""
        self.close()
        return Source(self.path, threads=self.threads)

    def _size(self) -> int:
        if is_url(self.path):
            return self._not_empty(facts_of(self.path).bytes)
        path = Path(self.path)
        try:
            if not path.is_file():
                what = "is a folder" if path.is_dir() else "does not exist"
                raise DecodeError(f"wanted a video file, but {self.path} {what}", reason="missing")
            size = path.stat().st_size
        except (OSError, ValueError) as error:
            raise DecodeError(f"cannot open {self.path}: {error}", reason="missing") from error
        return self._not_empty(size)

    def _not_empty(self, size: int) -> int:
        if not size:
            raise DecodeError(f"{self.path} has no bytes; fetch it again", reason="empty")
        return size

    def _open(self) -> InputContainer:
        if is_url(self.path):
            return self._open_file()
        try:
            return av.open(f"file:{Path(self.path).absolute()}", **OPEN_OPTIONS)
        except UnicodeEncodeError:
            return self._open_file()  # of a name that is no UTF-8, which FFmpeg does not take
        except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
            raise DecodeError(f"cannot open {self.path}: {error}", reason="missing") from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _open_file(self) -> InputContainer:
        """Give FFmpeg an open file instead of a name."""
        try:
            self._file = open_place(self.path)
            return cast(InputContainer, av.open(self._file, **OPEN_OPTIONS))
        except OSError as error:
            raise DecodeError(f"cannot open {self.path!r}: {error}", reason="missing") from error
        except (av.error.FFmpegError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DecodeError:
        return DecodeError(
            f"{self.path} cannot be read as a video: {brief(error)}{self.messages()}",
            reason="unreadable",
        )

    def _choose_stream(self) -> VideoStream:
        kind = self.container.format.name
        if kind in PLAYLISTS:
            raise DecodeError(
                f"{self.path} is a {kind} playlist; give the video files themselves",
                reason="unreadable",
            )
        streams = [s for s in self.container.streams.video if not is_cover(s)]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in self.container.streams}))
            raise DecodeError(
                f"{self.path} has no video stream, only {kinds or 'unknown data'}",
                reason="no_video",
            )
        return streams[0]

    @property
    def step_s(self) -> float:
        """Frame interval that the header gives, seconds; 1/25 where it gives none."""
        for rate in (self.stream.average_rate, self.stream.guessed_rate):
            if rate and 0.001 < rate < 1000:
                return float(1 / rate)
        return 0.04

    @property
    def codec(self) -> str:
        """Name of the coding, whichever decoder reads it."""
        return self.context.codec.canonical_name

    @property
    def declared_start_s(self) -> float:
        """Time at which the header says that the video starts; 0 where it says nothing."""
        return self.seconds(self.stream.start_time) or 0.0

    @property
    def declared_end_s(self) -> float:
        """Time at which the header says that the video ends; 0 where it says nothing."""
        length_s = self.seconds(self.stream.duration)
        if length_s is None:
            length_s = (self.container.duration or 0) / 1_000_000
        return self.declared_start_s + length_s if length_s > 0 else 0.0

    def seconds(self, timestamp: int | None) -> float | None:
        """Stream timestamp -> seconds, rounded once."""
        if timestamp is None or self._base is None:
            return None
        return timestamp * self._base[0] / self._base[1]

    def timestamp(self, time_s: float) -> int:
        """Seconds -> the stream timestamp at or before them."""
        return math.floor(time_s * self._base[1] / self._base[0] + 1e-6) if self._base else 0

    def seek_before(self, time_s: float) -> Any | None:
        """Go to a keyframe before `time_s`; return its packet, None if the file did not get there.

        A whole group of pictures earlier than needed is decoded, so that the decoder has the
        references and the output delay it would have had.
        """
        try:
            self.container.seek(self.timestamp(time_s) - 1, stream=self.stream)
            packet = next(iter(self.packets()))
        except (av.error.FFmpegError, OSError, StopIteration):
            return None
        landed_s = self.seconds(packet.pts)
        good = packet.is_keyframe and landed_s is not None and landed_s < time_s
        return packet if good else None

    def packets(self) -> Iterator[Any]:
        """Packets of the video stream in file order; the last one is empty and ends decoding."""
        while True:
            try:
                yield from self.container.demux(self.stream)
                return
            except IndexError:
                # PyAV meets a stream that was not there when the file was opened: go on behind it
                continue

    def messages(self) -> str:
        """FFmpeg's latest error, as the end of a sentence."""
        count, latest = av.logging.get_last_error()
        if latest is not None and count > self._seen:
            self._seen = count
            text = latest[2].strip()
            if text not in self._messages:
                self._messages.append(text)
        return f" ({'; '.join(self._messages)})" if self._messages else ""


def is_cover(stream: VideoStream) -> bool:
    """Tell whether a video stream is the cover picture of an audio file."""
    disposition = getattr(stream, "disposition", None)
    return bool(disposition and disposition & type(disposition).attached_pic)


def brief(error: Exception) -> str:
    """What FFmpeg said, without PyAV's numbers and file name."""
    return str(getattr(error, "strerror", None) or error)


def decoder_library() -> str:
    """Name and versions of the library that decodes, as recorded with every video."""
    version = ".".join(str(n) for n in av.library_versions["libavcodec"])
    return f"PyAV {av.__version__} libavcodec {version}"
