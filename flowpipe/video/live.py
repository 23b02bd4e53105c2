"""Camera, network stream or video file -> frames as they come, with their times."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DecodeError, UsageError
from flowpipe.remote import parse_path_or_url
from flowpipe.video.decode import VideoParams, open_video

_WAITING = 16
"""Most frames of a camera that wait; if more come, all waiting ones are dropped."""
_STREAMS = ("http", "https", "mms", "rtmp", "rtp", "rtsp", "srt", "tcp", "udp")
"""Schemes of addresses that are read as streams, not as files."""
_FRAMES_AT_ONCE = 8
"""Frames of a file that are decoded at once."""
_ASK_S = 5.0
"""Most seconds to ask why a stream cannot be opened."""

_EARLY = 1e-6
"""Share of a tick by which a frame may come early."""


class LiveFrame(NamedTuple):
    """One frame of a source."""

    pixels: NDArray[np.uint8]
    """RGB, uint8 (H, W, 3)."""
    time_s: float
    """Presentation time in a file; seconds since the first frame of a camera or stream."""
    dropped: int
    """Number of frames that were dropped just before this one because they came too fast."""


def is_stream(source: str) -> bool:
    """Return whether a source is a camera (``0``, ``/dev/video0``) or a network stream.

    All other sources are video files: every frame is read, however long it takes.

    Parameters
    ----------
    source : str
        Camera, URL or path.

    Returns
    -------
    bool
        True for a camera or a network stream.
    """
    scheme, separator, _ = source.partition("://")
    return source.isdecimal() or bool(separator and scheme in _STREAMS) or _is_device(source)


def live_frames(
    source: str, params: VideoParams, *, patience_s: float = 30.0
) -> Iterator[LiveFrame]:
    """Yield the frames of a source until it ends.

    Frames of a file are those that `open_video` gives. A camera or a stream does not wait: if
    frames come faster than they are taken, the waiting ones are dropped.

    Parameters
    ----------
    source : str
        Path of a video file, number or device of a camera, or URL of a stream.
    params : VideoParams
        Frame rate to resample to, and the decoder and stream of a file.
    patience_s : float
        Longest time that a network stream may take to open or to send the next frame, seconds.

    Raises
    ------
    UsageError
        If the camera or stream cannot be opened.
    DecodeError
        As `open_video`, and `VideoReader.windows` at the end of a damaged file; if a network stream
        stays silent.
    """
    if is_stream(source):
        with _Camera(source, patience_s) as camera:
            yield from resample(camera.frames(), params.fps)
        return
    with open_video(parse_path_or_url(source), params) as video:
        for window in video.windows(_FRAMES_AT_ONCE):
            for pixels, time_s in zip(window.data, window.pts_s.tolist(), strict=True):
                yield LiveFrame(pixels, time_s, 0)


def _is_device(source: str) -> bool:
    path = Path(source)
    return path.exists() and not path.is_file() and not path.is_dir()


def resample(frames: Iterator[LiveFrame], fps: float) -> Iterator[LiveFrame]:
    """Thin frames out to a rate: yield the first frame at or after each tick.

    Parameters
    ----------
    frames : iterator of LiveFrame
        Frames as they come.
    fps : float
        Ticks per second; 0 keeps all frames.

    Yields
    ------
    LiveFrame
        Frame, with the number of dropped frames before it.
    """
    ticks = dropped = 0
    for frame in frames:
        dropped += frame.dropped
        if fps:
            passed = math.floor(frame.time_s * fps + _EARLY) + 1
            if passed <= ticks:
                continue
            ticks = passed
        yield frame._replace(dropped=dropped)
        dropped = 0


class _Camera:
    """Thread that reads a camera or stream; a context manager."""

    def __init__(self, source: str, patience_s: float) -> None:
        self._source, self._patience_s = source, patience_s
        self._log_level = cv2.utils.logging.getLogLevel()
        # Errors are raised; OpenCV and its FFmpeg print nothing beside them.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", str(av.logging.PANIC))
        try:
            self._capture = self._open()
        except UsageError:
            self._restore_log()
            raise
        self._failure: DecodeError | None = None
        self._frames: deque[LiveFrame] = deque()
        self._dropped, self._ended, self._closed = 0, False, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)

    def __enter__(self) -> _Camera:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        self._thread.join()
        self._capture.release()
        self._restore_log()

    def _open(self) -> Any:
        """Return the open capture; UsageError says why there is none."""
        source, is_url = self._source, "://" in self._source
        began = time.monotonic()
        if is_url:
            milliseconds = round(1e3 * self._patience_s)
            limits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
            options = [value for limit in limits for value in (limit, milliseconds)]
            capture: Any = cv2.VideoCapture(source, cv2.CAP_ANY, options)
        else:
            capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
        if capture.isOpened():
            return capture
        why = ""
        if is_url:
            why = f"no answer within {self._patience_s:g} s"
            if time.monotonic() - began < self._patience_s:
                why = _ask_why(source)
        if why:
            raise UsageError(
                f"{source} cannot be opened: {why}; check the address and whether its server runs"
            )
        raise UsageError(
            f"{source} cannot be opened: wanted the number of a camera such as 0, its device, or "
            "the address of a stream that OpenCV can read"
        )

    def _restore_log(self) -> None:
        cv2.utils.logging.setLogLevel(self._log_level)

    def frames(self) -> Iterator[LiveFrame]:
        """Yield the frames as they come, until the source ends."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._ended)
                if not self._frames:
                    if self._failure is not None:
                        raise self._failure
                    return
                frame = self._frames.popleft()
            yield frame

    def _read(self) -> None:
        began, is_silent = None, False
        while not self._closed:
            asked = time.monotonic()
            is_read, image = self._capture.read()
            now = time.monotonic()
            # Frames that the decoder holds still follow the read that waited in vain.
            is_silent |= "://" in self._source and now - asked >= self._patience_s
            if not is_read:
                if is_silent:
                    self._failure = DecodeError(
                        f"{self._source}: no frame for {self._patience_s:g} s; check whether its "
                        "server still sends",
                        reason="unreachable",
                    )
                break
            began = now if began is None else began
            pixels = np.ascontiguousarray(image[:, :, ::-1])
            with self._changed:
                if len(self._frames) == _WAITING:
                    self._dropped += _WAITING + sum(one.dropped for one in self._frames)
                    self._frames.clear()
                self._frames.append(LiveFrame(pixels, now - began, self._dropped))
                self._dropped = 0
                self._changed.notify()
        with self._changed:
            self._ended = True
            self._changed.notify()


def _ask_why(source: str) -> str:
    """Return why FFmpeg cannot open an address; empty if it can, or says nothing."""
    try:
        av.open(source, timeout=_ASK_S).close()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or "")
    return ""
