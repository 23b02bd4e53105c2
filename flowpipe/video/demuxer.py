"""Path -> open video stream with demuxer and decoder, or a DecodeError with its reason code."""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import Any, BinaryIO, cast

import av
import av.logging
from av.container import InputContainer
from av.video.stream import VideoStream

from flowpipe.errors import DecodeError, read_reason
from flowpipe.remote import file_facts, is_url, open_path_or_url
from flowpipe.video.crop import is_cropped
from flowpipe.video.encryption import CONTAINERS, is_encrypted
from flowpipe.video.open_files import UnnamedFile, WatchedFile
from flowpipe.video.refusals import encryption_error, refuse_encrypted, refuse_still
from flowpipe.video.streams import choose_stream, continuations, is_cover

REFERRING = (
    "concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "vobsub",
    "webm_dash_manifest", "avisynth", "vapoursynth", "dvdvideo", "iamf", "mlv", "tty", "fbdev",
    "kmsgrab", "x11grab", "alsa", "oss", "video4linux2", "v4l2",
)  # fmt: skip
"""Formats that name other files, addresses, scripts or devices; a video is one file."""
FORMATS = ",".join(
    sorted({n for names in av.formats_available for n in names.split(",")} - set(REFERRING))
)

OPEN_OPTIONS: dict[str, Any] = {
    # FFmpeg reads only the file that it is given, and opens no file that its content names.
    "options": {"protocol_whitelist": "none", "format_whitelist": FORMATS},
    # Titles that are not UTF-8 must not stop a video; since PyAV 19 they never do.
    **({"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}),
}


class Demuxer:
    """Video file opened for demuxing and decoding; a context manager.

    Parameters
    ----------
    path : path
        Local file; or a URL of fsspec, of which only the parts that are read are fetched: good for
        headers, slow for whole videos. FFmpeg gets the open file, never its name, and may open no
        other.
    threads : int
        Decoder threads. With 1, the decoder's messages are kept for errors. With more they are not,
        because FFmpeg's threads would wait for Python to take them.
    stream : int, optional
        Index of the video stream to decode, as in ffprobe; None chooses, see `choose_stream`.

    Raises
    ------
    DecodeError
        ``missing``, ``empty``, ``unreadable``, ``no_video``, ``unsupported``, ``still_picture`` or
        ``encrypted``.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, threads: int = 1, stream: int | None = None
    ) -> None:
        self.path = os.fspath(path)
        self.threads = threads
        # At this level PyAV keeps FFmpeg's last error and prints nothing, through no logger.
        av.logging.set_level(av.logging.PANIC if threads == 1 else None)
        self._messages: deque[str] = deque(maxlen=3)
        self._seen = av.logging.get_last_error()[0]
        self.bytes = self._size()
        self._files: list[BinaryIO | WatchedFile] = []
        self.container: InputContainer = self._open()
        self._reading: tuple[InputContainer, Any] = self.container, None
        try:
            self.stream: VideoStream = choose_stream(self.container, self.path, stream, self._open)
            self.index, self._wanted = self.stream.index, stream
            refuse_still(self.container, self.stream, self.path, self._open)
            refuse_encrypted(self.container, self.stream, self.path)
            self.context = self.stream.codec_context
            if self.context is None:
                raise DecodeError(f"no decoder for the video in {self.path}", reason="unsupported")
            base = self.stream.time_base
            self._base = (base.numerator, base.denominator) if base else None
            self.format: str = self.container.format.name.split(",")[0]
            """Name of the container format, the first of FFmpeg's synonyms."""
            self.counts_frames = self.format == "avi"
            """True if the container numbers frames in coded order and has no timestamps."""
            self.decoding_times = self.format in ("avi", "asf")
            """True if the container has decoding times only; FFmpeg makes up timestamps."""
            self.reorders = bool(self.context.has_b_frames)
            """True if the header or the first packets show B frames."""
            self.video_streams = sum(not is_cover(s) for s in self.container.streams.video)
            """Video streams that are neither covers nor thumbnails."""
            chain: tuple[VideoStream, ...] = (self.stream,)
            if stream is None and self.video_streams > 1:
                chain = continuations(self.container, self.stream, self._open)
            self.joined_streams = len(chain)
            """Number of streams that follow each other and are decoded as one video."""
            self._reading = self.container, chain[0]
            self._later = [later.index for later in chain[1:]]
            position = [s.index for s in self.container.streams.video].index(self.index)
            self._track = self.stream.id, position
            ratio = self.stream.sample_aspect_ratio
            self.square_pixels = not ratio or ratio == 1
            self.context.thread_count = threads
            self.context.thread_type = "NONE" if threads == 1 else "AUTO"
        except BaseException as error:
            failure = self.storage_failure() if isinstance(error, DecodeError) else None
            self.close()
            if failure is not None:
                raise failure from error
            raise

    def __enter__(self) -> Demuxer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the decoder; PyAV leaks them when left to the collector."""
        if self._reading[0] is not self.container:
            self._reading[0].close()
        self.container.close()
        self._close_files()

    def reopen(self) -> Demuxer:
        """Close this source and open the same file from its start."""
        self.close()
        return Demuxer(self.path, threads=self.threads, stream=self._wanted)

    def _size(self) -> int:
        if is_url(self.path):
            return self._not_empty(file_facts(self.path).bytes)
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            words = f"wanted a video file, but {self.path} does not exist"
            raise DecodeError(words, reason="missing") from None
        except (OSError, ValueError) as error:
            reason = read_reason(error) if isinstance(error, OSError) else "missing"
            raise DecodeError(f"{self.path} cannot be opened: {error}", reason=reason) from error
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise DecodeError(f"wanted a video file, but {self.path} is {what}", reason="missing")
        return self._not_empty(status.st_size)

    def _not_empty(self, size: int) -> int:
        if not size:
            raise DecodeError(f"{self.path} is empty; fetch it again", reason="empty")
        return size

    def _open(self) -> InputContainer:
        """Open the container from an open file: FFmpeg could take a name for a pattern or URL."""
        try:
            file = open_path_or_url(self.path) if is_url(self.path) else WatchedFile(self.path)
        except OSError as error:
            raise DecodeError(
                f"{self.path!r} cannot be opened: {error}", reason=read_reason(error)
            ) from error
        self._files.append(file)
        try:
            return cast(InputContainer, av.open(file, **OPEN_OPTIONS))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            failure = self._unreadable_error(error)
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                # FFmpeg also guesses the format from names such as a.png, which may be wrong
                file.seek(0)
                return cast(InputContainer, av.open(UnnamedFile(file), **OPEN_OPTIONS))
            failure = self.storage_failure() or self._encryption_error(file) or failure
            self._close_files()
            raise failure from error

    def storage_failure(self) -> DecodeError | None:
        """Return the error ``io`` if a read of the file has failed so far."""
        for file in self._files:
            if isinstance(file, WatchedFile) and file.failure is not None:
                return DecodeError(
                    f"{self.path}: the storage failed while the file was read: "
                    f"{file.failure.strerror}",
                    reason="io",
                )
        return None

    def _unreadable_error(self, error: Exception) -> DecodeError:
        count, latest = av.logging.get_last_error()
        if count > self._seen and latest is not None and "not on whitelist" in latest[2]:
            words = (
                f"is a list or script of the format {latest[1]}; give the video files themselves"
            )
            return DecodeError(f"{self.path} {words}", reason="unreadable")
        return DecodeError(
            f"{self.path} cannot be read as a video: {brief(error)}{self.messages()}",
            reason="unreadable",
        )

    def _encryption_error(self, file: BinaryIO | WatchedFile) -> DecodeError | None:
        """Return the error ``encrypted`` if a local file that FFmpeg cannot open is encrypted."""
        if isinstance(file, WatchedFile):
            with contextlib.suppress(OSError):
                if any(is_encrypted(cast(BinaryIO, file), kind) for kind in CONTAINERS):
                    return encryption_error(self.path)
        return None

    def _close_files(self) -> None:
        while self._files:
            self._files.pop().close()

    @property
    def step_s(self) -> float:
        """Frame interval by the header, seconds; 1/25 if it has none."""
        for rate in (self.stream.average_rate, self.stream.guessed_rate):
            if rate and 0.001 < rate < 1000:
                return float(1 / rate)
        return 0.04

    @cached_property
    def is_cropped(self) -> bool:
        """True if the container of a local file crops the pictures; False for a URL."""
        if is_url(self.path):
            return False
        with contextlib.suppress(OSError), open_path_or_url(self.path) as file:
            return is_cropped(file, self.format, *self._track)
        return False

    @property
    def step(self) -> int:
        """Frame interval in units of the stream's timestamps; AVI counts frames."""
        return 1 if self.counts_frames or not self._base else self.timestamp(self.step_s)

    @property
    def codec(self) -> str:
        """FFmpeg's name of the coding."""
        return self.context.codec.canonical_name

    @property
    def declared_start_s(self) -> float:
        """Start time by the header, seconds; 0 if it has none."""
        return self.seconds(self.stream.start_time) or 0.0

    @property
    def declared_end_s(self) -> float:
        """End time by the header, seconds; 0 if it has none."""
        length_s = self.seconds(self.stream.duration)
        if length_s is None:
            length_s = (self.container.duration or 0) / 1_000_000
            if 0 < self._tagged_s < length_s:
                length_s = self._tagged_s  # the sound is longer
            if self.format == "matroska" and length_s > self.declared_start_s:
                return length_s  # counted from 0, not from the first frame
        return self.declared_start_s + length_s if length_s > 0 else 0.0

    @property
    def _tagged_s(self) -> float:
        """Length of the stream by Matroska's tag, HOURS:MINUTES:SECONDS, seconds; 0 without it."""
        found = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", self.stream.metadata.get("DURATION", ""))
        hours, minutes, seconds = map(float, found.groups() if found else (0, 0, 0))
        return 3600 * hours + 60 * minutes + seconds

    @property
    def steady_end_s(self) -> float:
        """Time up to which gaps of any length are accepted, seconds; -inf for none.

        Matroska and MP4 declare a duration. The duration of a transport stream is estimated from
        its clock, which wraps.
        """
        return self.declared_end_s if self.format in ("matroska", "mov") else -math.inf

    def seconds(self, timestamp: int | None) -> float | None:
        """Convert a timestamp of the stream to seconds, rounded once.

        Parameters
        ----------
        timestamp : int or None
            Timestamp in units of the stream's time base.

        Returns
        -------
        float or None
            Seconds; None if there is no timestamp or no time base.
        """
        if timestamp is None or self._base is None:
            return None
        return timestamp * self._base[0] / self._base[1]

    def timestamp(self, time_s: float) -> int:
        """Convert seconds to a timestamp of the stream.

        Parameters
        ----------
        time_s : float
            Time, seconds.

        Returns
        -------
        int
            The timestamp at or before it.
        """
        return math.floor(time_s * self._base[1] / self._base[0] + 1e-6) if self._base else 0

    def seek_before(self, time_s: float) -> Any | None:
        """Seek to a keyframe before a time.

        Decoding starts one group of pictures earlier than necessary, so that the decoder has the
        same references and output delay as in the middle of a video.

        Parameters
        ----------
        time_s : float
            Time, seconds.

        Returns
        -------
        av.Packet or None
            Packet of the keyframe; None if seeking failed.
        """
        if self.joined_streams > 1:
            return None
        try:
            self.container.seek(self.timestamp(time_s) - 1, stream=self.stream)
            packet = next(iter(self.packets()))
        except (av.error.FFmpegError, OSError, StopIteration):
            return None
        landed_s = self.seconds(packet.pts)
        good = packet.is_keyframe and landed_s is not None and landed_s < time_s
        return packet if good else None

    def packets(self) -> Iterator[Any]:
        """Yield the packets of the video stream in file order; the last is empty, which flushes."""
        while True:
            container, stream = self._reading
            try:
                for packet in container.demux(stream):
                    if self.decoding_times and not self.reorders:
                        packet.pts = packet.dts  # FFmpeg makes up a pts, which may be a frame late
                    if packet.size or not self._later:
                        yield packet
            except IndexError:
                # PyAV raises this for a stream that appeared after the file was opened: go on
                continue
            if not self._later:
                return
            if container is not self.container:
                container.close()
            container = self._open()
            self._reading = container, container.streams[self._later.pop(0)]

    def messages(self) -> str:
        """Return FFmpeg's latest errors in brackets, to end a sentence; empty if there are none."""
        count, latest = av.logging.get_last_error()
        if latest is not None and count > self._seen:
            self._seen = count
            text = latest[2].strip()
            if text not in self._messages:
                self._messages.append(text)
        return f" ({'; '.join(self._messages)})" if self._messages else ""


def brief(error: Exception) -> str:
    """Return the message of an FFmpeg error.

    Parameters
    ----------
    error : Exception
        Error of PyAV.

    Returns
    -------
    str
        Message, without PyAV's numbers and file name.
    """
    return str(getattr(error, "strerror", None) or error)


def decoder_library() -> str:
    """Return name and versions of the decoding library, as recorded with every video."""
    version = ".".join(str(n) for n in av.library_versions["libavcodec"])
    return f"PyAV {av.__version__} libavcodec {version}"
