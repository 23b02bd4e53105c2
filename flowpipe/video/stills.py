"""Image file -> upright RGB frame; video file, K -> its frames K and K + 1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DecodeError, UsageError
from flowpipe.video.decode import open_video
from flowpipe.words import count_noun

opencv: Any = cv2  # its type stubs say that imdecode never fails


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a still picture: PNG, JPEG, or another format of OpenCV.

    FFmpeg is not used, because it conceals a missing half of a JPEG and ignores EXIF orientation.

    Parameters
    ----------
    path : path
        File to read.

    Returns
    -------
    uint8 (H, W, 3)
        Upright RGB by the EXIF tag. 16 bits are rounded to 8; gray has three equal channels.

    Raises
    ------
    DecodeError
        ``missing``; ``unreadable``; ``unsupported`` if pixels are transparent, or are not integers
        of 8 or 16 bits.
    """
    try:
        content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise DecodeError(f"{path} cannot be opened: {error.strerror}", reason="missing") from error
    stored = _decode(content, cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise DecodeError(
            f"{path} cannot be read as a picture: it is damaged, or not PNG or JPEG; for a video, "
            "choose two frames with --frame K",
            reason="unreadable",
        )
    if stored.dtype not in (np.uint8, np.uint16):
        raise DecodeError(
            f"{path} has pixels of type {stored.dtype}, wanted 8 or 16 bits; convert it to PNG",
            reason="unsupported",
        )
    opaque = np.iinfo(stored.dtype).max
    if stored.ndim == 3 and stored.shape[2] == 4 and stored[..., 3].min() < opaque:
        raise DecodeError(
            f"{path} has transparent pixels, whose colour is undefined; put it on a background "
            "first",
            reason="unsupported",
        )
    image: Any = _decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)  # upright, no alpha
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    return np.ascontiguousarray(image[..., ::-1])


def read_pair(path: str | os.PathLike[str], k: int) -> list[NDArray[np.uint8]]:
    """Decode two consecutive frames of a video.

    Parameters
    ----------
    path : path
        Video file.
    k : int
        Number of the first frame, from 0.

    Returns
    -------
    list of two uint8 (H, W, 3)
        Upright RGB, as `open_video` yields it; of one size unless the video changes it.

    Raises
    ------
    DecodeError
        If the video cannot be decoded up to these frames.
    UsageError
        If the video has fewer frames; the message gives their number.
    """
    pair: list[NDArray[np.uint8]] = []
    count = 0
    try:
        video = open_video(path, stop_at_damage=True)
    except DecodeError as error:
        if error.reason != "still_picture":
            raise
        raise UsageError(
            f"{path} is a still picture, and a flow needs two; give two images, or a video"
        ) from error
    with video:
        for frames in video.windows():
            wanted = frames.data[max(0, k - count) : max(0, k + 2 - count)]
            pair.extend(frame.copy() for frame in wanted)
            if len(pair) == 2:
                return pair
            count += len(frames.data)
    which = f"so --frame can be 0 to {count - 2}" if count > 1 else "but a flow needs two"
    raise UsageError(f"{path} has {count_noun(count, 'frame')}, {which}; wanted {k} and {k + 1}")


def _decode(content: NDArray[np.uint8], flags: int) -> NDArray[Any] | None:
    try:
        image: NDArray[Any] | None = opencv.imdecode(content, flags)
    except cv2.error:  # no bytes at all, or more pixels than OpenCV allows
        return None
    return image
