"""Picture of any pixel format -> upright 8-bit RGB, and notes on the assumptions made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from flowpipe.errors import DecodeError

BT2020 = 9  # of AVColorSpace and of swscale
# AVColorSpace -> (name, swscale's matrix)
MATRICES = {
    1: ("bt709", 1),
    4: ("fcc", 4),
    5: ("bt601", 5),
    6: ("bt601", 5),
    7: ("smpte240m", 7),
    9: ("bt2020", BT2020),
    10: ("bt2020", BT2020),
}
UNCONVERTIBLE = {
    8: "YCgCo",
    11: "SMPTE 2085",
    12: "chroma-derived",
    13: "chroma-derived",
    14: "ICtCp",
}
TRANSFERS = {
    1: "bt709", 2: "", 4: "gamma22", 5: "gamma28", 6: "bt601", 7: "smpte240m", 8: "linear",
    11: "xvycc", 13: "srgb", 14: "bt2020", 15: "bt2020", 16: "pq", 17: "smpte428", 18: "hlg",
}  # fmt: skip
LEAST_SINE = 0.01
"""Sine of the angle between the axes of a display matrix below which it counts as singular."""
LIMITED, FULL = 1, 2
RANGES = {LIMITED: "limited", FULL: "full"}

# libswscale's flags; older PyAV names only the first. With these, 8-bit video is rounded to the
# nearest level, with the same result on every machine and for odd sizes. The default code path is
# three times as fast, but up to three levels off and 0.8 too dark, and differs for odd sizes.
BILINEAR, FULL_CHROMA, ACCURATE, BITEXACT = 0x2, 0x2000, 0x40000, 0x80000
FLAGS = BILINEAR | FULL_CHROMA | ACCURATE | BITEXACT


@dataclass(frozen=True, kw_only=True)
class ColourTags:
    """Colour matrix, range and transfer function of a picture; by default those of none."""

    matrix: str = ""
    """Name such as ``bt709``; also ``rgb`` and ``gray``."""
    range: str = ""
    """``limited`` or ``full``."""
    transfer: str = ""
    """Name such as ``bt709``; empty if unspecified."""
    swscale_matrix: int = 5
    """Number of the matrix in libswscale."""
    swscale_range: int = LIMITED
    """`LIMITED` or `FULL`."""
    notes: tuple[str, ...] = ()
    """Codes of the assumptions made."""


def read_colour(frame: Any) -> ColourTags:
    """Read the colour tags of a decoded picture, with defaults for missing ones.

    Untagged YCbCr is read as BT.601, limited range, at any height, as by OpenCV and FFmpeg's
    scaler, with which the published flow data sets were made. Gray and RGB are full range unless
    tagged.

    Parameters
    ----------
    frame : av.VideoFrame
        Decoded picture.

    Returns
    -------
    ColourTags
        Matrix, range and transfer, and notes on what is missing.

    Raises
    ------
    DecodeError
        ``unsupported`` for matrices other than the linear YCbCr ones.
    """
    name = frame.format.name
    notes = []
    code = int(frame.color_trc)
    transfer = TRANSFERS.get(code, f"code{code}")
    if transfer in ("pq", "hlg"):
        notes.append("hdr_not_tone_mapped")
    tagged = int(frame.color_range)
    if frame.format.is_rgb or name.startswith(("pal8", "gbr", "xyz")):
        return ColourTags(
            matrix="rgb",
            range="full",
            transfer=transfer,
            swscale_matrix=5,
            swscale_range=FULL,
            notes=tuple(notes),
        )
    if name.startswith(("gray", "mono", "ya")):
        wide = FULL if tagged != LIMITED else LIMITED
        return ColourTags(
            matrix="gray",
            range=RANGES[wide],
            transfer=transfer,
            swscale_matrix=5,
            swscale_range=FULL,
            notes=tuple(notes),
        )
    code = int(frame.colorspace)
    if code in UNCONVERTIBLE:
        raise DecodeError(
            f"pictures in {UNCONVERTIBLE[code]} colours cannot be converted to RGB",
            reason="unsupported",
        )
    if code in MATRICES:
        matrix, swscale_matrix = MATRICES[code]
    else:
        matrix, swscale_matrix = "bt601", 5
        notes.append("colour_untagged")
    wide = FULL if tagged == FULL or name.startswith("yuvj") else LIMITED
    return ColourTags(
        matrix=matrix,
        range=RANGES[wide],
        transfer=transfer,
        swscale_matrix=swscale_matrix,
        swscale_range=wide,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class Orientation:
    """Rotation by quarter turns and mirroring, as a display matrix gives them."""

    rotation_deg: int = 0
    """Clockwise rotation, degrees: 0, 90, 180 or 270."""
    mirrored: bool = False
    """True if the picture is flipped left to right after the rotation."""
    skewed: bool = False
    """True if the matrix is no multiple of a quarter turn; the nearest one is applied."""
    unusable: bool = False
    """True if the matrix is singular, so that it is ignored."""

    @property
    def moves(self) -> bool:
        """True if any pixel changes its position."""
        return bool(self.rotation_deg) or self.mirrored

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of the upright picture.

        Parameters
        ----------
        width, height : int
            Size of the coded picture, pixels.

        Returns
        -------
        (width, height)
            Size, pixels.
        """
        return (height, width) if self.rotation_deg % 180 else (width, height)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a picture upright.

        Parameters
        ----------
        image : uint8 (H, W) or (H, W, 3)
            Picture as coded.

        Returns
        -------
        uint8 (H, W) or (H, W, 3)
            View of it.
        """
        image = np.rot90(image, -self.rotation_deg // 90)
        return image[:, ::-1] if self.mirrored else image


def read_orientation(frame: Any) -> Orientation:
    """Read the orientation of a decoded picture; phones record sideways and rely on it.

    Parameters
    ----------
    frame : av.VideoFrame
        Decoded picture.

    Returns
    -------
    Orientation
        Rotation and mirroring that make it upright.
    """
    matrix = display_matrix(frame)
    if matrix is None:
        return Orientation()
    if isinstance(matrix, int):
        return (
            Orientation(round(-matrix / 90) * 90 % 360)
            if abs(matrix) <= 360
            else Orientation(unusable=True)
        )
    a, b, u, c, d, v = (int(n) for n in np.frombuffer(matrix, np.int32)[:6])
    # (x, y) of the coded picture is shown at (a x + c y, b x + d y)
    determinant = a * d - b * c
    # compare the sine of the angle between both axes as they are shown
    if abs(determinant) <= LEAST_SINE * math.hypot(a, b) * math.hypot(c, d):
        return Orientation(unusable=True)
    mirrored = determinant < 0
    if mirrored:
        a, c = -a, -c
    if abs(a) >= abs(b):
        rotation = 0 if a > 0 else 180
    else:
        rotation = 90 if b > 0 else 270
    oblique = any(min(abs(x), abs(y)) > 0.01 * max(abs(x), abs(y)) for x, y in ((a, b), (c, d)))
    return Orientation(rotation, mirrored, skewed=oblique or u != 0 or v != 0)


def display_matrix(frame: Any) -> bytes | int | None:
    """Return a picture's display matrix, nine int32, or its angle where PyAV has only that.

    PyAV refuses all side data of a picture that has a kind it does not know, such as EXIF. The
    angle that it reads itself is counter-clockwise, in degrees, and does not show mirroring. A
    singular matrix gives an angle beyond 360 degrees.

    Parameters
    ----------
    frame : av.VideoFrame
        Decoded picture.

    Returns
    -------
    bytes or int or None
        Nine int32, or degrees; None if the picture has neither.
    """
    try:
        side = frame.side_data.get("DISPLAYMATRIX") if frame.side_data else None
    except ValueError:
        return int(frame.rotation)
    return None if side is None else bytes(side)


_EXPAND = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class Converter:
    """Converts decoded pictures to RGB arrays; reuses the tables of the scaler."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def write(
        self, frame: Any, colour: ColourTags, turn: Orientation, out: NDArray[np.uint8]
    ) -> None:
        """Write a picture as upright RGB.

        Parameters
        ----------
        frame : av.VideoFrame
            Decoded picture.
        colour : ColourTags
            Colours of the picture.
        turn : Orientation
            Orientation of the picture.
        out : uint8 (H, W, 3)
            Array to write to, of the upright size.

        Raises
        ------
        DecodeError
            ``unsupported`` for a pixel format that libswscale cannot read.
        """
        if colour.swscale_matrix == BT2020:
            frame.colorspace = BT2020  # PyAV 17 uses the frame's tag, not `src_colorspace`
        try:
            picture = self._scaler.reformat(
                frame,
                format="gbrp",
                interpolation=FLAGS,
                src_colorspace=colour.swscale_matrix,
                # RGB has no matrix; PyAV does not convert gbrp to gbrp if both are equal
                dst_colorspace=5 if colour.swscale_matrix != 5 else 1,
                src_color_range=colour.swscale_range,
                dst_color_range=FULL,
                threads=1,  # the default is the number of cores
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(
                f"pixel format {frame.format.name} cannot be converted to RGB: {error}",
                reason="unsupported",
            ) from error
        # libswscale has vector code for planar RGB only; the result is that of packed RGB
        green, blue, red = (
            np.frombuffer(memoryview(plane), np.uint8)
            .reshape(-1, plane.line_size)[:, : picture.width]
            for plane in picture.planes
        )  # fmt: skip
        if turn.moves:
            image = np.empty((picture.height, picture.width, 3), np.uint8)
            cv2.merge([red, green, blue], image)
            out[...] = turn.apply(image)
        else:
            cv2.merge([red, green, blue], out)  # six times as fast as NumPy
        if colour.matrix == "gray" and colour.range == "limited":
            out[...] = _EXPAND[out]  # not by libswscale, whose versions differ here
