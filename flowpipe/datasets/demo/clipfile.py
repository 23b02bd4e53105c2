"""Frames of a demo clip -> a video file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from flowpipe.datasets.demo.motion import FPS, HEIGHT, WIDTH
from flowpipe.errors import BackendError

# The quality is high enough that coding noise does not hide the true flow. The same frames must
# give the same file: one thread, and no look-ahead, in which x264's macroblock tree reads
# uninitialised memory. A keyframe every half second lets readers seek.
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "14", "threads": "1", "rc-lookahead": "0"},
    "mpeg4": {"qmin": "2", "qmax": "3", "threads": "1"},
}
_KEYFRAME_EVERY = 12


def write_clip(path: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    """Encode frames with libx264, or else with MPEG-4 part 2.

    Parameters
    ----------
    path : Path
        File to write.
    frames : iterable of uint8 (H, W, 3)
        RGB.

    Raises
    ------
    BackendError
        If FFmpeg can encode neither H.264 (libx264) nor MPEG-4 part 2.
    """
    name = next((n for n in _ENCODERS if n in av.codecs_available and _can_encode(n)), None)
    if name is None:
        raise BackendError(
            f"the demo clips cannot be made: this FFmpeg has none of the encoders "
            f"{', '.join(_ENCODERS)}; install PyAV from its own wheel (pip install av)"
        )
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream(name, rate=FPS, options=_ENCODERS[name])
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = _KEYFRAME_EVERY
        stream.codec_context.time_base = Fraction(1, FPS)
        # The colour tags tell players how to convert the stream to RGB.
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        reformatter = VideoReformatter()
        for number, pixels in enumerate(frames):
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(pixels, format="rgb24"),
                format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG,
            )  # fmt: skip
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _can_encode(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    return True
