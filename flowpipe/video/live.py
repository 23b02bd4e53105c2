"""Camera, network stream or video file -> frames as they come, with their times."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.remote import parse_path_or_url
from flowpipe.video.decode import VideoParams, open_video

_WAITING = 16
"""Most frames of a camera that wait; if more come, all waiting ones are dropped."""
_STREAMS = ("http", "https", "mms", "rtmp", "rtp", "rtsp", "srt", "tcp", "udp")
"""Schemes of addresses that are read as streams, not as files."""
_FRAMES_AT_ONCE = 8
"""Frames of a file that are decoded at once."""


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


def live_frames(source: str, params: VideoParams) -> Iterator[LiveFrame]:
    """Yield the frames of a source until it ends.

    Frames of a file are those that `open_video` gives. A camera or a stream does not wait: if
    frames come faster than they are taken, the waiting ones are dropped.

    Parameters
    ----------
    source : str
        Path of a video file, number or device of a camera, or URL of a stream.
    params : VideoParams
        Frame rate to resample to, and the decoder and stream of a file.

    Raises
    ------
    UsageError
        If the camera or stream cannot be opened.
    DecodeError
        As `open_video`, and `VideoReader.windows` at the end of a damaged file.
    """
    if is_stream(source):
        with _Camera(source) as camera:
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

    def __init__(self, source: str) -> None:
        name = int(source) if source.isdecimal() else source
        self._capture: Any = cv2.VideoCapture(name)
        if not self._capture.isOpened():
            raise UsageError(
                f"{source} cannot be opened: wanted the number of a camera such as 0, its device, "
                "or the address of a stream that OpenCV can read"
            )
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

    def frames(self) -> Iterator[LiveFrame]:
        """Yield the frames as they come, until the source ends."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._ended)
                if not self._frames:
                    return
                frame = self._frames.popleft()
            yield frame

    def _read(self) -> None:
        began = None
        while not self._closed:
            is_read, image = self._capture.read()
            if not is_read:
                break
            now = time.monotonic()
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
