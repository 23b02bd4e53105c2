"""NVDEC's pictures in device memory, where it is proven that they become the RGB of the CPU."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DecodeError, DeviceMemoryError
from flowpipe.surfaces import RgbConversion, SurfaceOps, Surfaces
from flowpipe.video.colour import Converter, read_colour, read_turn
from flowpipe.video.planes import Blank, planes_of
from flowpipe.video.swscale import conversions


class SurfacePicture:
    """A decoded picture whose pixels are in device memory.

    Everything but its pixels and its time is that of `sample`, a picture of FFmpeg.
    """

    def __init__(
        self, sample: Any, pixels: Any, conversion: RgbConversion, pts: int | None
    ) -> None:
        self._sample, self.pixels, self.conversion, self.pts = sample, pixels, conversion, pts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sample, name)


class Keeper:
    """Copies NVDEC's pictures to device memory of their own.

    Parameters
    ----------
    ops : SurfaceOps
    sample : av.VideoFrame
        FFmpeg's picture of the first keyframe.
    conversion : Conversion
    """

    def __init__(self, ops: SurfaceOps, sample: Any, conversion: RgbConversion) -> None:
        self._ops, self._sample, self._conversion = ops, sample, conversion

    def keep(self, planes: Sequence[tuple[int, int]], pts: int | None) -> SurfacePicture | None:
        """Return the picture whose planes begin at these addresses and have so many bytes; None,
        and say so, where there is too little memory for it."""
        try:
            return SurfacePicture(self._sample, self._ops.keep(planes), self._conversion, pts)
        except DeviceMemoryError:
            _say_short()
            return None

    def fetch(self, planes: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        """Return the bytes of these planes."""
        return self._ops.fetch(planes)

    def settle(self) -> None:
        """Wait until NVDEC may use its memory again."""
        self._ops.settle()


def find_keeper(ops: SurfaceOps | None, blank: Blank) -> Keeper | None:
    """Return what keeps pictures of this kind on the device; None where they go to the host."""
    if ops is None:
        return None
    try:
        conversion = _proven_conversion(ops, blank)
    except DeviceMemoryError:
        _say_short()
        return None
    return None if conversion is None else Keeper(ops, blank.sample, conversion)


def _proven_conversion(ops: SurfaceOps, blank: Blank) -> RgbConversion | None:
    """Return how the device converts pictures of this kind; None, and say so, where it differs.

    A picture of noise is converted on both sides, and the RGB has to be the same: another version
    of libswscale may have other numbers.
    """
    sample = blank.sample
    try:
        colour, turn = read_colour(sample), read_turn(sample)
    except DecodeError:
        return None  # whoever converts it says so
    noise, layout = blank.copy(), blank.layout
    rng = np.random.default_rng(0)
    for plane in planes_of(noise):
        plane[...] = rng.integers(0, 1 << layout.bits, plane.shape, plane.dtype)
    width, height = turn.size(sample.width, sample.height)
    meant = np.empty((height, width, 3), np.uint8)
    Converter().write(noise, colour, turn, meant)
    pixels = ops.to_device(layout.pack(planes_of(noise)))
    for conversion in conversions(layout.height, layout.width, layout.bits, colour, turn):
        found = ops.resize(Surfaces((pixels,), conversion), height, width)
        if np.array_equal(found[0], meant):
            return conversion
    _say_differs(f"{sample.format.name} of {colour.matrix}, {colour.range} range")
    return None


@functools.cache
def _say_differs(kind: str) -> None:
    warnings.warn(
        f"nvdec: the GPU's conversion of {kind} to RGB is not that of this libswscale; pictures "
        "of this kind are converted on the host, with the same result but slower",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def _say_short() -> None:
    warnings.warn(
        "nvdec: too little device memory to keep decoded pictures there; some are converted on the "
        "host, with the same result but slower",
        RuntimeWarning,
        stacklevel=2,
    )
