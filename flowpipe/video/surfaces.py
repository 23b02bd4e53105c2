"""NVDEC's pictures -> copies in device memory, if the device converts them to the CPU's RGB."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DecodeError, DeviceMemoryError
from flowpipe.surfaces import RgbConversion, SurfaceOps, Surfaces
from flowpipe.video.colour import Converter, read_colour, read_orientation
from flowpipe.video.planes import PictureFactory, planes_of
from flowpipe.video.swscale import conversions


class SurfacePicture:
    """Decoded picture whose pixels are in device memory.

    All other attributes but `pts` are those of `sample`, a picture of FFmpeg.

    Parameters
    ----------
    sample : av.VideoFrame
        Picture of the same size, format and tags.
    pixels : device array
        Bytes of the picture, uint8 (bytes,).
    conversion : RgbConversion
        Conversion to RGB.
    pts : int or None
        Timestamp in units of the stream's time base.
    """

    def __init__(
        self, sample: Any, pixels: Any, conversion: RgbConversion, pts: int | None
    ) -> None:
        self._sample, self.pixels, self.conversion, self.pts = sample, pixels, conversion, pts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sample, name)


class SurfaceCopier:
    """Copies NVDEC's pictures to new device memory.

    Parameters
    ----------
    ops : SurfaceOps
        Device that keeps the pictures.
    sample : av.VideoFrame
        FFmpeg's picture of the first keyframe.
    conversion : RgbConversion
        Conversion of the pictures to RGB.
    """

    def __init__(self, ops: SurfaceOps, sample: Any, conversion: RgbConversion) -> None:
        self._ops, self._sample, self._conversion = ops, sample, conversion

    def copy(self, planes: Sequence[tuple[int, int]], pts: int | None) -> SurfacePicture | None:
        """Copy a picture in device memory.

        Parameters
        ----------
        planes : sequence of (int, int)
            Device address and bytes of each plane.
        pts : int or None
            Timestamp in units of the stream's time base.

        Returns
        -------
        SurfacePicture or None
            The copy; None, with a warning, if there is too little device memory.
        """
        try:
            return SurfacePicture(
                self._sample, self._ops.copy_planes(planes), self._conversion, pts
            )
        except DeviceMemoryError:
            warn_of_short_memory()
            return None

    def fetch(self, planes: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        """Copy planes to the host.

        Parameters
        ----------
        planes : sequence of (int, int)
            Device address and bytes of each plane.

        Returns
        -------
        uint8 (bytes,)
            The planes, one behind the other.
        """
        return self._ops.fetch_planes(planes)

    def wait_for_copies(self) -> None:
        """Wait until NVDEC may use its memory again."""
        self._ops.wait_for_copies()


def find_copier(ops: SurfaceOps | None, blank: PictureFactory) -> SurfaceCopier | None:
    """Return the copier of pictures of one kind.

    Parameters
    ----------
    ops : SurfaceOps or None
        Device that pictures may stay on.
    blank : PictureFactory
        Maker of such pictures.

    Returns
    -------
    SurfaceCopier or None
        The copier; None if the pictures go to the host.
    """
    if ops is None:
        return None
    try:
        conversion = _proven_conversion(ops, blank)
    except DeviceMemoryError:
        warn_of_short_memory()
        return None
    return None if conversion is None else SurfaceCopier(ops, blank.sample, conversion)


def _proven_conversion(ops: SurfaceOps, blank: PictureFactory) -> RgbConversion | None:
    """Return the device's conversion of pictures of this kind; None, with a warning, if it differs.

    A picture of noise is converted on the host and on the device, and the RGB must be equal,
    because another version of libswscale may have other coefficients.
    """
    sample = blank.sample
    try:
        colour, turn = read_colour(sample), read_orientation(sample)
    except DecodeError:
        return None  # the conversion on the host will raise this error
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
    warn_of_difference(f"{sample.format.name} of {colour.matrix}, {colour.range} range")
    return None


@functools.cache
def warn_of_difference(kind: str) -> None:
    """Warn once that a device converts pictures to RGB in another way than libswscale.

    Parameters
    ----------
    kind : str
        Format, matrix and range of the pictures.
    """
    warnings.warn(
        f"nvdec: the GPU's conversion of {kind} to RGB differs from that of this libswscale; "
        "pictures of this kind are converted on the host, with the same result but slower",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def warn_of_short_memory() -> None:
    """Warn once that the device lacks memory for decoded pictures."""
    warnings.warn(
        "nvdec: too little device memory to keep decoded pictures there; some are converted on the "
        "host, with the same result but slower",
        RuntimeWarning,
        stacklevel=2,
    )
