"""Pictures of one size -> stack of frames: RGB in host memory, or surfaces on a device."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from flowpipe.surfaces import Surfaces
from flowpipe.video.colour import ColourTags, Converter, Orientation
from flowpipe.video.surfaces import SurfacePicture


class Stack(Protocol):
    """Frames of one window, added one at a time."""

    capacity: int
    """Largest number of frames."""

    def takes(self, picture: Any, height: int, width: int) -> bool:
        """Return whether a picture has the kind and size of the others.

        Parameters
        ----------
        picture : av.VideoFrame or SurfacePicture
            Decoded picture.
        height, width : int
            Upright size, pixels.

        Returns
        -------
        bool
            True if it can be added.
        """

    def add(self, picture: Any, colour: ColourTags, turn: Orientation) -> None:
        """Add a picture.

        Parameters
        ----------
        picture : av.VideoFrame or SurfacePicture
            Decoded picture.
        colour : ColourTags
            Colours of the picture.
        turn : Orientation
            Orientation of the picture.

        Raises
        ------
        DecodeError
            ``unsupported`` for a pixel format that libswscale cannot read.
        """

    def repeat(self) -> None:
        """Add the last picture once more."""

    def __len__(self) -> int: ...

    @property
    def frames(self) -> Any:
        """The frames so far: uint8 (T, H, W, 3), or Surfaces."""


def new_stack(picture: Any, height: int, width: int, capacity: int, converter: Converter) -> Stack:
    """Return an empty stack for pictures such as this one.

    Parameters
    ----------
    picture : av.VideoFrame or SurfacePicture
        First picture.
    height, width : int
        Its upright size, pixels.
    capacity : int
        Most frames of the stack.
    converter : Converter
        Converts pictures on the host to RGB.

    Returns
    -------
    Stack
        The stack, empty.
    """
    if isinstance(picture, SurfacePicture):
        return SurfaceStack(capacity)
    return HostStack(height, width, capacity, converter)


class HostStack:
    """Frames as RGB in host memory, converted by libswscale.

    Parameters
    ----------
    height, width : int
        Upright size of the frames, pixels.
    capacity : int
        Most frames of the stack.
    converter : Converter
        Converts pictures to RGB.
    """

    def __init__(self, height: int, width: int, capacity: int, converter: Converter) -> None:
        self.capacity, self._count, self._converter = capacity, 0, converter
        self._data = np.empty((capacity, height, width, 3), np.uint8)

    def takes(self, picture: Any, height: int, width: int) -> bool:
        is_host = not isinstance(picture, SurfacePicture)
        return is_host and self._data.shape[1:3] == (height, width)

    def add(self, picture: Any, colour: ColourTags, turn: Orientation) -> None:
        self._converter.write(picture, colour, turn, self._data[self._count])
        self._count += 1

    def repeat(self) -> None:
        self._data[self._count] = self._data[self._count - 1]
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @property
    def frames(self) -> Any:
        return self._data[: self._count]


class SurfaceStack:
    """Pictures in device memory with one conversion to RGB, which the device does later.

    Parameters
    ----------
    capacity : int
        Most frames of the stack.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self._pictures = capacity, list[SurfacePicture]()

    def takes(self, picture: Any, height: int, width: int) -> bool:
        if not isinstance(picture, SurfacePicture):
            return False
        return not self._pictures or picture.conversion is self._pictures[0].conversion

    def add(self, picture: Any, colour: ColourTags, turn: Orientation) -> None:
        self._pictures.append(picture)

    def repeat(self) -> None:
        self._pictures.append(self._pictures[-1])

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def frames(self) -> Any:
        pixels = tuple(picture.pixels for picture in self._pictures)
        return Surfaces(pixels, self._pictures[0].conversion)
