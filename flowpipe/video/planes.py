"""Planes of a decoded picture <-> NVDEC's NV12 and P016; new pictures with another's tags."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

BITS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10, "yuv420p12le": 12}
"""Bits by pixel format: 4:2:0 only, which every NVDEC returns as NV12, or as P016 if deeper."""


@dataclass(frozen=True)
class SurfaceLayout:
    """Memory layout of an NVDEC picture: rows of luma, then rows of interleaved U and V."""

    height: int
    """Rows of luma."""
    width: int
    """Columns of luma."""
    bits: int
    """Bits of a value; if more than 8, they are the upper bits of 16."""

    @property
    def row(self) -> int:
        """Values in a row: an even number, because U and V alternate."""
        return self.width + self.width % 2

    @property
    def plane_rows(self) -> tuple[int, int]:
        """Rows of luma and of chroma."""
        return self.height, (self.height + 1) // 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of a value: uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def plane_bytes(self) -> tuple[int, int]:
        """Bytes of luma and of chroma."""
        luma, chroma = self.plane_rows
        return luma * self.row * self.dtype.itemsize, chroma * self.row * self.dtype.itemsize

    def unpack(
        self, luma: NDArray[np.uint8], chroma: NDArray[np.uint8], out: list[NDArray[Any]]
    ) -> None:
        """Copy the bytes of a picture to its planes.

        Parameters
        ----------
        luma : uint8 (bytes,)
            Rows of Y.
        chroma : uint8 (bytes,)
            Rows of interleaved U and V.
        out : list of uint8 or uint16
            Y (H, W), and U and V of half the size.
        """
        rows, chroma_rows = self.plane_rows
        columns = luma.view(self.dtype).reshape(rows, self.row)[:, : self.width]
        pairs = chroma.view(self.dtype).reshape(chroma_rows, self.row // 2, 2)
        shift = self.dtype.itemsize * 8 - self.bits
        np.right_shift(columns, shift, out=out[0]) if shift else np.copyto(out[0], columns)
        cv2.split(pairs, out[1:])  # four times as fast as NumPy
        for plane in out[1:] if shift else ():
            np.right_shift(plane, shift, out=plane)

    def pack(self, planes: list[NDArray[Any]]) -> NDArray[np.uint8]:
        """Arrange planes as the bytes of a picture.

        Parameters
        ----------
        planes : list of uint8 or uint16
            Y (H, W), and U and V of half the size.

        Returns
        -------
        uint8 (bytes,)
            The picture.
        """
        rows, chroma_rows = self.plane_rows
        values = np.zeros((rows + chroma_rows, self.row), self.dtype)
        values[:rows, : self.width] = planes[0]
        values[rows:, ::2], values[rows:, 1::2] = planes[1:]
        values <<= self.dtype.itemsize * 8 - self.bits
        return values.reshape(-1).view(np.uint8)


def planes_of(picture: Any) -> list[NDArray[Any]]:
    """Return the planes of a picture as arrays.

    Parameters
    ----------
    picture : av.VideoFrame
        Decoded picture.

    Returns
    -------
    list of uint8 or uint16 (H, W)
        Planes, without the padding of rows.
    """
    dtype = np.dtype(np.uint8 if BITS[picture.format.name] == 8 else np.uint16)
    return [
        np.frombuffer(memoryview(plane), dtype)
        .reshape(-1, plane.line_size // dtype.itemsize)[: plane.height, : plane.width]
        for plane in picture.planes
    ]  # fmt: skip


class PictureFactory:
    """Makes pictures with the size, format and tags of `sample`, and memory of their own.

    PyAV cannot set the chroma siting, on which RGB depends, or the display matrix. A graph without
    filters returns another reference to a picture, which is copied when it is made writable.

    Parameters
    ----------
    sample : av.VideoFrame
        Picture to imitate.
    """

    def __init__(self, sample: Any) -> None:
        self.sample = sample
        self.layout = SurfaceLayout(sample.height, sample.width, BITS[sample.format.name])
        self._graph = Graph()
        begin = self._graph.add_buffer(
            width=sample.width,
            height=sample.height,
            format=sample.format,
            time_base=sample.time_base or Fraction(1),
        )
        end = self._graph.add("buffersink")
        begin.link_to(end)
        self._graph.configure()

    def copy(self) -> Any:
        """Return a writable copy of `sample`."""
        self._graph.push(self.sample)
        picture: Any = self._graph.pull()
        picture.make_writable()
        return picture
