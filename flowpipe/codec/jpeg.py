"""Images <-> JPEG files through libjpeg-turbo (simplejpeg): the default, lossy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from flowpipe.errors import FormatError

MAX_SIDE_PX = 65500  # libjpeg's limit


@dataclass(frozen=True)
class JpegParams:
    """Quality 1..100 and chroma subsampling.

    Subsampling ``420`` halves chroma in both directions, ``422`` horizontally; ``444`` keeps it.
    ``gray`` is for flow, whose fields are gray images. ``auto`` is replaced by the subsampling of
    the modality's row, see `flowpipe.codec.for_modality`.
    """

    name: ClassVar[str] = "jpeg"
    quality: int = 95
    subsampling: Literal["auto", "420", "422", "444", "gray"] = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be in 1..100, got {self.quality}")
        if self.subsampling not in ("auto", "420", "422", "444", "gray"):
            raise ValueError(
                f"subsampling must be auto, 420, 422, 444 or gray, got {self.subsampling!r}"
            )


def encode(image: NDArray[np.uint8], params: JpegParams) -> bytes:
    """Encode an image as a JFIF file.

    Parameters
    ----------
    image : uint8 (H, W, 3) or (H, W)
        RGB or gray.
    params : JpegParams
        Quality and subsampling.

    Returns
    -------
    bytes
        Contents of the file.

    Raises
    ------
    ValueError
        If a side is not 1 to `MAX_SIDE_PX` pixels, or colour has no subsampling.
    """
    if max(image.shape[:2]) > MAX_SIDE_PX or min(image.shape[:2]) < 1:
        raise ValueError(
            f"a JPEG side must be 1..{MAX_SIDE_PX} pixels, got {image.shape[1]}x{image.shape[0]} "
            "(a flow field is stored twice as wide as it is); choose another size or codec"
        )
    if image.ndim == 2:
        return bytes(
            simplejpeg.encode_jpeg(
                image[:, :, None], params.quality, "GRAY", colorsubsampling="Gray"
            )
        )
    if params.subsampling not in ("420", "422", "444"):
        # No default fits: the best subsampling for frames blurs rgb_diff.
        raise ValueError(
            f"colour images need subsampling 420, 422 or 444, got {params.subsampling}; gray is "
            "for flow, and codec.for_modality replaces auto"
        )
    return bytes(
        simplejpeg.encode_jpeg(image, params.quality, "RGB", colorsubsampling=params.subsampling)
    )


def read_size(payload: bytes) -> tuple[int, int, int]:
    """Read the size of an image from its header.

    Parameters
    ----------
    payload : bytes
        Contents of a JPEG file.

    Returns
    -------
    height, width : int
        Size in pixels.
    components : int
        1 or 3.

    Raises
    ------
    FormatError
        If it is no JPEG file.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(payload)
    except ValueError as error:
        raise FormatError(f"not a JPEG file: {error}") from None
    return height, width, 1 if colours.upper() == "GRAY" else 3


def decode_into(payload: bytes, out: NDArray[np.uint8]) -> None:
    """Decode an image into an array.

    Parameters
    ----------
    payload : bytes
        Contents of a JPEG file.
    out : uint8 (H, W, 3) or (H, W)
        Array of the size that the file states.

    Raises
    ------
    FormatError
        If the JPEG data is damaged.
    """
    try:
        simplejpeg.decode_jpeg(payload, "RGB" if out.ndim == 3 else "GRAY", buffer=out)
    except ValueError as error:
        raise FormatError(f"the JPEG data is damaged: {error}") from None
