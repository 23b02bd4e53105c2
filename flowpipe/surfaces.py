"""Decoded pictures in device memory, and the integers by which they become RGB.

A decoder on the device leaves its pictures there. They go on to the operations of that device
without a copy through the host. The decoder (`flowpipe.video`) and the operations (`flowpipe.ops`)
share only the definitions of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RgbConversion:
    """Conversion of a coded 4:2:0 picture to upright 8-bit RGB, in the numbers of libswscale."""

    height: int
    """Rows of luma."""
    width: int
    """Columns of luma."""
    bits: int
    """Bits of a value: 8 in NV12; 9 to 16 in P016, which has them in the upper bits."""
    colour: NDArray[np.int32]
    """(6,): black level times 512, then gains in 1/8192: luma, V to red, V to green, U to green, U
    to blue."""
    columns: NDArray[np.int32]
    """(width, 4): both columns of chroma that a column of luma lies between, and their weights in
    1/16384."""
    rows: NDArray[np.int32]
    """(height, 4): the same of rows, with weights in 1/4096."""
    quarter_turns: int = 0
    """Number of clockwise quarter turns."""
    mirrored: bool = False
    """Flipped left to right after the turns."""

    @property
    def upright(self) -> tuple[int, int]:
        """Size after the turns, (height, width)."""
        size = self.height, self.width
        return (size[1], size[0]) if self.quarter_turns % 2 else size


@dataclass(frozen=True)
class Surfaces:
    """Decoded pictures of one format on a device, with the interface of a stack of RGB frames."""

    pictures: tuple[Any, ...]
    """Arrays uint8 (bytes,) of the device: rows of luma, then rows of U and V side by side. All
    rows have the same even number of values, one or two bytes each."""
    conversion: RgbConversion

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, 3) of the RGB frames."""
        return (len(self.pictures), *self.conversion.upright, 3)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, part: slice) -> Surfaces:
        return Surfaces(self.pictures[part], self.conversion)


class SurfaceOps(Protocol):
    """Operations of a device that its decoder, and checks of its pictures, need."""

    def copy_planes(self, planes: Sequence[tuple[int, int]]) -> Any:
        """Copy what a decoder has left in device memory.

        Parameters
        ----------
        planes : sequence of (int, int)
            Address and bytes of each part; the copies are concatenated.

        Returns
        -------
        device array
            Bytes, uint8 (bytes,), for the operations of this thread.

        Raises
        ------
        DeviceMemoryError
            If the device lacks memory.
        """

    def fetch_planes(self, planes: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        """Copy a decoder's planes to the host, without device memory.

        Parameters
        ----------
        planes : sequence of (int, int)
            Address and bytes of each part.

        Returns
        -------
        uint8 (bytes,)
            The parts, one behind the other.
        """

    def wait_for_copies(self) -> None:
        """Wait for the copies of `copy_planes` that this thread has asked for.

        The decoder may then use its memory again.
        """

    def to_device(self, frames: NDArray[Any]) -> Any:
        """Copy an array to the device.

        Parameters
        ----------
        frames : array
            Array on the host.

        Returns
        -------
        device array
            Its values on the device.
        """

    def resize(self, frames: Any, height: int, width: int) -> NDArray[np.uint8]:
        """Resize surfaces and convert them to RGB.

        Parameters
        ----------
        frames : Surfaces
            N pictures.
        height, width : int
            Size of the frames, pixels.

        Returns
        -------
        uint8 (N, height, width, 3)
            RGB frames on the host.
        """
