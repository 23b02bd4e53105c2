"""uint8 frames -> a real video file, encoded with PyAV: the clips that tests decode."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


def encode_video(
    path: str | Path,
    frames: NDArray[np.uint8],
    fps: float = 25,
    codec: str = "libx264",
    *,
    pix_fmt: str | None = None,
    pts_s: Sequence[float] | None = None,
    time_base: Fraction = Fraction(1, 90000),
    colorspace: int | None = None,
    color_range: int | None = None,
    color_trc: int | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    gop: int | None = None,
    b_frames: int | None = None,
    rotation_deg: int = 0,
    mirrored: bool = False,
    **options: Any,
) -> Path:
    """Encode frames to a file; the container follows from the file name.

    Parameters
    ----------
    path : path
        ``.mp4``, ``.mkv``, ``.avi``, ``.mov``, ``.webm`` ...
    frames : uint8 (T, H, W, 3)
        RGB. With ``pix_fmt`` given and frames of shape (T, rows, W) they are taken as raw planes of
        that pixel format, as `av.VideoFrame.from_ndarray` reads them, so that a test decides the
        coded values.
    fps : float
        Frame rate; ignored where `pts_s` is given.
    codec : str
        Encoder name: ``libx264``, ``libx265``, ``mpeg4``, ``libvpx-vp9``, ``ffv1``, ``rawvideo``.
    pts_s : sequence of float, optional
        Presentation times of the frames, seconds, strictly increasing: a variable frame rate.
    colorspace, color_range, color_trc : int, optional
        Tags as FFmpeg numbers them (`AVColorSpace`, 1 limited or 2 full, ...).
    gop, b_frames : int, optional
        Keyframe distance and number of consecutive B frames.
    rotation_deg : int
        Clockwise turn that a player shall apply (display matrix; MP4 and MOV).
    mirrored : bool
        The player shall also flip the turned picture left to right.
    **options
        Private options of the encoder, such as ``crf=18``.

    Returns
    -------
    Path
        `path`.
    """
    path = Path(path)
    raw = frames.ndim == 3
    height, width = frames.shape[1:3]
    if raw:
        assert pix_fmt is not None, "raw planes need their pixel format"
        height = {"yuv420p": height * 2 // 3, "yuvj420p": height * 2 // 3}.get(pix_fmt, height)
    rate = Fraction(fps).limit_denominator(1001)
    if codec == "libx265":
        options["x265-params"] = ":".join(
            [*filter(None, [options.get("x265-params")]), "log-level=none"]
        )
    with av.open(
        str(path), "w", format=container_format, options=container_options or {}
    ) as container:
        stream = container.add_stream(
            codec, rate=rate, options={k: str(v) for k, v in options.items()}
        )
        context = stream.codec_context
        stream.width, stream.height = width, height
        if pix_fmt is None:
            pix_fmt = "bgr0" if codec in ("ffv1", "huffyuv") else "yuv420p"
            if codec == "rawvideo":
                pix_fmt = "bgr24"
            elif codec == "mjpeg":
                pix_fmt = "yuvj420p"
        stream.pix_fmt = pix_fmt
        context.thread_count = 1
        if gop is not None:
            context.gop_size = gop
        if b_frames is not None:
            context.max_b_frames = b_frames
        if pts_s is not None:
            context.time_base = time_base
        else:
            context.time_base = 1 / rate
        for name, value in (
            ("colorspace", colorspace),
            ("color_range", color_range),
            ("color_trc", color_trc),
        ):
            if value is not None:
                setattr(context, name, value)
        reformatter = VideoReformatter()
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format=pix_fmt if raw else "rgb24")
            if not raw and pix_fmt != "rgb24":
                frame = reformatter.reformat(
                    frame,
                    format=pix_fmt,
                    dst_colorspace={1: 1, 9: 9}.get(colorspace or 0, 5),
                    dst_color_range=color_range or 1,
                )
            for name, value in (("colorspace", colorspace), ("color_range", color_range)):
                if value is not None:
                    setattr(frame, name, value)
            frame.pts = index if pts_s is None else round(pts_s[index] / context.time_base)
            frame.time_base = context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if rotation_deg or mirrored:
        _write_display_matrix(path, rotation_deg, mirrored)
    return path


def _write_display_matrix(path: Path, rotation_deg: int, mirrored: bool) -> None:
    """Overwrite the matrix in the track header of an MP4 or MOV file."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation_deg]
    flip = -1 if mirrored else 1
    matrix = (flip * cos, sin, 0, flip * -sin, cos, 0, 0, 0)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", *(n << 16 for n in matrix), 1 << 30)
    path.write_bytes(content)


def moving_clip(count: int, height: int = 64, width: int = 96, seed: int = 0) -> NDArray[np.uint8]:
    """Return a smooth coloured texture that slides under a window: (T, H, W, 3)."""
    generator = np.random.default_rng(seed)
    canvas = generator.integers(0, 256, (height // 4 + 30, width // 4 + 80, 3)).astype(np.uint8)
    canvas = canvas.repeat(4, axis=0).repeat(4, axis=1)
    steps = np.arange(count)
    tops, lefts = (3 * steps) % 100, (2 * steps) % 300
    return np.stack(
        [
            canvas[top : top + height, left : left + width]
            for top, left in zip(tops, lefts, strict=True)
        ]
    )


def good_files(folder: Path) -> dict[str, Path]:
    """Return the same moving clip in every container and coding that damage is tested on."""
    frames = moving_clip(80)
    faststart = {"container_options": {"movflags": "+faststart"}}
    return {
        "mp4": encode_video(folder / "a.mp4", frames, gop=16, **faststart),
        "mkv": encode_video(folder / "a.mkv", frames, gop=16),
        "webm": encode_video(folder / "a.webm", frames, codec="libvpx-vp9", deadline="realtime"),
        "avi": encode_video(folder / "a.avi", frames, codec="mpeg4", gop=16),
        "mjpeg.avi": encode_video(folder / "b.avi", frames, codec="mjpeg"),
        "hevc.mp4": encode_video(folder / "b.mp4", frames, codec="libx265", **faststart),
        "ts": encode_video(folder / "a.ts", frames, gop=16),
        "flv": encode_video(folder / "a.flv", frames, gop=16),
    }
