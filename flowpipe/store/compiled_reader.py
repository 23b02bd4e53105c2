"""Requests for images -> their pixels in one call of compiled code, no Python per image.

kernels/cpu/snippets.cpp reads, compares CRCs and decodes JPEG files on several threads, and decodes
only the wanted crop of each image. Where it was not compiled, `Store` reads image by image, with
the same result.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.codec.images import image_shape, images_to_planes
from flowpipe.distribution import install_command
from flowpipe.store.shard_file import OpenShard

LIBRARY = Path(__file__).resolve().parent.parent / "_snippets.so"
ABI = 3  # as in kernels/cpu/snippets.cpp

Part = tuple[int, int, int, int]
"""Crop of an image, pixels: top, bottom, left, right; bottom and right are exclusive."""

SNIPPET = np.dtype(
    [(name, "<i8") for name in (
        "offsets_at", "crcs_at", "end", "bytes_at", "count", "fd", "image_bytes",
        "height", "width", "components", "planes", "top", "bottom", "left", "right",
        "out", "row_bytes", "plane_bytes",
    )]
)  # fmt: skip
"""struct Snippet of the source: eight bytes each."""


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """Consecutive images of one shard, to be decoded to `out`."""

    shard: OpenShard
    modality: str
    first: int
    """Number in the shard of the first image."""
    out: NDArray[np.uint8]
    """uint8 (T, H, W, 3) or (T, H, planes * W), C-contiguous; H and W are those of the crop."""
    size: tuple[int, int]
    """Height and width of a plane of the images, pixels."""
    planes: int
    """Planes that lie side by side in an image."""
    part: Part | None = None
    """Crop of each plane; None for all of it."""

    @property
    def within(self) -> Part:
        """Crop, or all of a plane."""
        return self.part or (0, self.size[0], 0, self.size[1])

    def fits(self, count: int) -> bool:
        """Return whether the reader can serve the request.

        Parameters
        ----------
        count : int
            Number of images.

        Returns
        -------
        bool
            True if the crop lies inside the image and `out` has the size of `count` crops.
        """
        (height, width), (top, bottom, left, right) = self.size, self.within
        return (
            0 <= top <= bottom <= height and 0 <= left <= right <= width
            and self.out.shape[:3] == (count, bottom - top, self.planes * (right - left))
        )  # fmt: skip


@dataclass(frozen=True)
class SnippetReader:
    """Compiled reader, or the reason why it cannot be used."""

    reason: str = ""
    library: Any = None


@functools.cache
def snippet_reader(path: str = str(LIBRARY)) -> SnippetReader:
    """Load the compiled reader; never raises.

    Parameters
    ----------
    path : str
        File of the compiled library.

    Returns
    -------
    SnippetReader
        The reader, or the reason why there is none.
    """
    advice = (
        "install a C++ compiler and the headers of libjpeg-turbo and zlib (Debian: libjpeg-dev, "
        f"zlib1g-dev), then {install_command()}"
    )
    if not Path(path).exists():
        return SnippetReader(f"no compiled reader at {path}: {advice}")
    try:
        library = ctypes.CDLL(path)
        abi = library.flowpipe_snippets_abi()
        library.flowpipe_snippets.restype = ctypes.c_long
        library.flowpipe_snippets_by_libjpeg.restype = ctypes.c_long
    except (OSError, AttributeError) as error:
        return SnippetReader(f"the reader at {path} cannot be loaded ({error}): {advice}")
    if abi != ABI:
        return SnippetReader(f"the reader at {path} has interface {abi}, not {ABI}: {advice}")
    return SnippetReader(library=library)


def read_images(wants: Sequence[ImageRequest], threads: int, *, check: bool) -> NDArray[np.bool_]:
    """Read and decode many requests.

    Parameters
    ----------
    wants : sequence of ImageRequest
        Images to read, n requests.
    threads : int
        Decoding threads.
    check : bool
        Compare the CRC of every payload.

    Returns
    -------
    bool (n,)
        True for each request that failed: its shard is damaged, or its images are no JPEG files of
        the size of `out`. `Store.snippet` reads it again and raises the error.
    """
    library = snippet_reader().library
    failed = np.ones(len(wants), np.uint8)
    if library is None or not wants:
        return failed.astype(bool)
    table = np.array([_row(want, check) for want in wants], SNIPPET)
    library.flowpipe_snippets(
        ctypes.c_long(len(wants)), ctypes.c_void_p(table.ctypes.data), ctypes.c_long(threads),
        ctypes.c_void_p(failed.ctypes.data),
    )  # fmt: skip
    return failed.astype(bool)


def copy_crop(planes: NDArray[np.uint8], part: Part, out: NDArray[np.uint8]) -> None:
    """Copy a crop of planes to images.

    Parameters
    ----------
    planes : uint8 (T, C, H, W)
        Decoded images.
    part : (top, bottom, left, right)
        Crop, pixels.
    out : uint8 (T, h, w, 3) or (T, h, C * w)
        Images of the size of the crop.

    Raises
    ------
    ValueError
        If the crop does not lie inside the planes, or `out` has another size.
    """
    (count, channels, height, width), (top, bottom, left, right) = planes.shape, part
    if not (0 <= top <= bottom <= height and 0 <= left <= right <= width):
        raise ValueError(
            f"rows {top}..{bottom} and columns {left}..{right} are not within an image of "
            f"{width}x{height}"
        )
    h, w = bottom - top, right - left
    shape = (count, *image_shape(channels, h, w))
    if out.shape != shape:
        raise ValueError(f"the crops have the shape {shape}, but `out` has {out.shape}")
    images_to_planes(out, channels)[...] = planes[..., top:bottom, left:right]


def _row(want: ImageRequest, check: bool) -> tuple[int, ...]:
    """Return the fields of `SNIPPET`, in its order."""
    count, rows, columns, *colours = want.out.shape
    components, (height, width) = math.prod(colours), want.size
    fd, end, bytes_at, offsets_at, crcs_at = want.shard.locate(want.modality, want.first, count)
    row_bytes = columns * components
    return (
        offsets_at, crcs_at if check else 0, end, bytes_at, count, fd, rows * row_bytes,
        height, want.planes * width, components, want.planes, *want.within,
        want.out.__array_interface__["data"][0], row_bytes, row_bytes // want.planes,
    )  # fmt: skip
