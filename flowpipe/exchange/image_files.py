"""Payloads of a store <-> image files of other tools: one per frame, x and y of flow apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.codec import JpegLsParams, JpegParams, Payload
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES

JPEG, PNG = ".jpg", ".png"

_SAMPLED = 16
_PNG_EFFORT = [cv2.IMWRITE_PNG_COMPRESSION, 3]


class ImageFileWriter:
    """Makes image files of the payloads of one stream.

    Colour that is stored as JPEG is copied byte for byte. Other images are decoded and recompressed
    as PNG, which keeps every value, or as JPEG, which does not. The error of JPEG is measured on
    every 16th image.

    Parameters
    ----------
    modality, codec_name : str
        Stream of the payloads, and its codec.
    extension : str
        ``.jpg`` or ``.png``, for images that are recompressed.
    quality : int
        JPEG quality, 1..100.

    Attributes
    ----------
    extension : str
        Extension of the files.
    keeps : bool
        True if the files hold every value.
    difference_sum : float
        Sum of absolute differences to the store, levels, over the values that were compared.
    differences : int
        Number of values that were compared.
    """

    def __init__(self, modality: str, codec_name: str, extension: str, quality: int) -> None:
        row = MODALITIES[modality]
        self.channels, self.colour = row.channels, row.is_colour
        self.copies = row.is_colour and codec_name == JpegParams.name
        self.extension = JPEG if self.copies else extension
        self.keeps = self.copies or self.extension == PNG
        subsampling = row.subsampling if row.is_colour else "gray"
        self._params = JpegParams(quality, subsampling)  # type: ignore[arg-type]
        self._seen = 0
        self.difference_sum, self.differences = 0.0, 0

    def files(self, payloads: Sequence[Payload]) -> Iterator[tuple[bytes, ...]]:
        """Make the files of each image.

        Parameters
        ----------
        payloads : sequence of bytes-like
            Payloads of the stream.

        Yields
        ------
        tuple of bytes
            Contents of the files of one image, in the order of `layouts.file_names`.
        """
        if self.copies:
            yield from ((bytes(payload),) for payload in payloads)
            return
        planes = codec.decode(payloads, self.channels)
        for image in planes:
            parts = [image.transpose(1, 2, 0)] if self.colour else list(image)
            made = tuple(self._compress(np.ascontiguousarray(part)) for part in parts)
            if self.extension == JPEG and self._seen % _SAMPLED == 0:
                self._measure(parts, made)
            self._seen += 1
            yield made

    def _compress(self, image: NDArray[np.uint8]) -> bytes:
        if self.extension == JPEG:
            return codec.CODECS[JpegParams.name].encode(image, self._params)
        pixels = image[:, :, ::-1] if image.ndim == 3 else image
        return bytes(cv2.imencode(PNG, pixels, _PNG_EFFORT)[1])

    def _measure(self, parts: Sequence[NDArray[np.uint8]], made: Sequence[bytes]) -> None:
        for part, content in zip(parts, made, strict=True):
            again = image_file(content, part.ndim == 3)
            self.difference_sum += float(np.abs(again.astype(np.int16) - part).sum())
            self.differences += part.size


def image_file(content: bytes, colour: bool) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG file.

    Parameters
    ----------
    content : bytes
        Content of the file.
    colour : bool
        Whether RGB is wanted; else colour becomes its luma, as in other loaders.

    Returns
    -------
    uint8 (H, W, 3) or (H, W)
        RGB if `colour` is true, else gray.

    Raises
    ------
    FormatError
        If the file is neither JPEG nor PNG of 8 bits, is damaged, or is gray and colour is
        wanted.
    """
    if content[:2] == b"\xff\xd8":
        row = codec.CODECS[JpegParams.name]
        height, width, depth = row.read_size(content)
        if colour and depth != 3:
            raise FormatError("a gray image where colour is wanted")
        out = np.empty((height, width, 3) if colour else (height, width), np.uint8)
        row.decode_into(content, out)
        return out
    flag = cv2.IMREAD_UNCHANGED if colour else cv2.IMREAD_GRAYSCALE
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content else None
    if pixels is None or pixels.dtype != np.uint8:
        raise FormatError("neither a JPEG nor a PNG of 8 bits, or damaged")
    if colour:
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise FormatError("a gray or transparent image where colour is wanted")
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    return np.asarray(pixels, np.uint8)


def payload_of(contents: Sequence[bytes], colour: bool, copy: bool) -> tuple[bytes, int, int]:
    """Make the payload of one image from its files.

    Parameters
    ----------
    contents : sequence of bytes
        One file; two for a flow field, x and y.
    colour : bool
        Whether the image is RGB; else each file is a gray plane.
    copy : bool
        Take the JPEG file unchanged, after decoding it as a check; else encode JPEG-LS losslessly.

    Returns
    -------
    payload : bytes
        JPEG or JPEG-LS file.
    height, width : int
        Size of the image, pixels.

    Raises
    ------
    FormatError
        If a file is damaged, x and y differ in size, or a JPEG to copy is not baseline.
    """
    if copy:
        if not _is_baseline(contents[0]):
            raise FormatError("not a baseline JPEG; a store holds no other JPEG")
        height, width = image_file(contents[0], colour).shape[:2]
        return contents[0], height, width
    images = [image_file(content, colour) for content in contents]
    if len({image.shape for image in images}) > 1:
        raise FormatError(f"x and y differ in size: {images[0].shape} and {images[1].shape}")
    planes = images[0].transpose(2, 0, 1) if colour else np.stack(images)
    made = codec.encode(planes[None], JpegLsParams())[0]
    return made, planes.shape[1], planes.shape[2]


def _is_baseline(content: bytes) -> bool:
    """Return whether a JPEG is baseline or extended sequential, by its frame header."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker in (0xC0, 0xC1)
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False
