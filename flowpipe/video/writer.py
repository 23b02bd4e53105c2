"""Frames with times -> a video file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import translate_write_errors

_TICKS = 90_000
"""Ticks of the clock per second."""


class VideoWriter:
    """Writes frames as H.264, or as MPEG-4 where FFmpeg lacks libx264; a context manager.

    Parameters
    ----------
    path : Path
        File to write, which is replaced; its name ends in .mp4, .mkv or .mov.

    Raises
    ------
    DiskFullError
        If the disk is full, also of `add` and at the end.
    UsageError
        If the file cannot be written for another reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translate_errors():
            self._container = av.open(str(path), "w")
        self._stream: Any = None
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], time_s: float) -> None:
        """Add a frame.

        A last odd row or column is cut off, which the colour format cannot store.

        Parameters
        ----------
        pixels : uint8 (H, W, 3)
            RGB, of the size of the first frame.
        time_s : float
            Presentation time, seconds.
        """
        height, width = (side // 2 * 2 for side in pixels.shape[:2])
        if self._stream is None:
            name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(name, _TICKS // 1000)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, _TICKS)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), "rgb24")
        frame.pts = self._last = max(self._last + 1, round(time_s * _TICKS))
        frame.time_base = Fraction(1, _TICKS)
        with self._translate_errors():
            self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with self._translate_errors():
            if self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_write_errors(self._path, "video")
