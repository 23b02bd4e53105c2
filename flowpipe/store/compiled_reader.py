"""Requests for snippets -> their pixels in one call of compiled code, no Python per image.

kernels/cpu/snippets.cpp, which reads, compares CRCs and decodes JPEG files on several threads, and
of each image only the part that is asked for. Where it was not compiled, `Store` does the same
image by image, to the same bytes.
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

from flowpipe.codec import as_planes
from flowpipe.distribution import install_command
from flowpipe.store.shard_file import OpenShard

LIBRARY = Path(__file__).resolve().parent.parent / "_snippets.so"
ABI = 3  # as in kernels/cpu/snippets.cpp

Part = tuple[int, int, int, int]
"""Rows and columns that are needed of an image: top, bottom, left, right, the ends exclusive."""

_SNIPPET = np.dtype(
    [(name, "<i8") for name in (
        "offsets_at", "crcs_at", "end", "bytes_at", "count", "fd", "image_bytes",
        "height", "width", "components", "planes", "top", "bottom", "left", "right",
        "out", "row_bytes", "plane_bytes",
    )]
)  # fmt: skip
"""As struct Snippet of the source: eight bytes each."""


@dataclass(frozen=True)
class Want:
    """Some images of one shard, to be decoded to `out`."""

    shard: OpenShard
    modality: str
    first: int
    """Number in the shard of the first image."""
    out: NDArray[np.uint8]
    """(T, H, W, 3) or (T, H, planes * W) of the part, C-contiguous."""
    size: tuple[int, int]
    """Height and width of a plane of the images."""
    planes: int
    """Planes that lie side by side in an image."""
    part: Part | None = None
    """Rows and columns of each plane; None for all."""

    @property
    def within(self) -> Part:
        """The part, or all of a plane."""
        return self.part or (0, self.size[0], 0, self.size[1])

    def fits(self, count: int) -> bool:
        """Whether the part lies inside the image and `out` has the size of `count` such parts."""
        (height, width), (top, bottom, left, right) = self.size, self.within
        return (
            0 <= top <= bottom <= height and 0 <= left <= right <= width
            and self.out.shape[:3] == (count, bottom - top, self.planes * (right - left))
        )  # fmt: skip


@dataclass(frozen=True)
class SnippetReader:
    """The compiled reader, or why there is none."""

    reason: str = ""
    library: Any = None


@functools.cache
def snippet_reader(path: str = str(LIBRARY)) -> SnippetReader:
    """What is known of the compiled reader; never raises."""
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


def read_batch(wants: Sequence[Want], threads: int, *, check: bool) -> NDArray[np.bool_]:
    """Read and decode many snippets; True for each that has to be read again to say what is wrong.

    Nothing else is to be done with those: the shard may be damaged, or its images are no JPEG files
    of the size of `out`.
    """
    library = snippet_reader().library
    failed = np.ones(len(wants), np.uint8)
    if library is None or not wants:
        return failed.astype(bool)
    table = np.array([_row(want, check) for want in wants], _SNIPPET)
    library.flowpipe_snippets(
        ctypes.c_long(len(wants)), ctypes.c_void_p(table.ctypes.data), ctypes.c_long(threads),
        ctypes.c_void_p(failed.ctypes.data),
    )  # fmt: skip
    return failed.astype(bool)


def copy_part(planes: NDArray[np.uint8], part: Part, out: NDArray[np.uint8]) -> None:
    """Copy a part of planes (T, C, H, W) to images (T, H, W, 3) or (T, H, C * W) of its size.

    Raises
    ------
    ValueError
        If the part is not within the planes, or `out` is of another size.
    """
    (count, channels, height, width), (top, bottom, left, right) = planes.shape, part
    if not (0 <= top <= bottom <= height and 0 <= left <= right <= width):
        raise ValueError(
            f"rows {top}..{bottom} and columns {left}..{right} are not within an image of "
            f"{width}x{height}"
        )
    h, w = bottom - top, right - left
    shape = (count, h, w, 3) if channels == 3 else (count, h, channels * w)
    if out.shape != shape:
        raise ValueError(f"the parts have the shape {shape} and their memory {out.shape}")
    as_planes(out, channels)[...] = planes[..., top:bottom, left:right]


def _row(want: Want, check: bool) -> tuple[int, ...]:
    """In the order of `_SNIPPET`."""
    count, rows, columns, *colours = want.out.shape
    components, (height, width) = math.prod(colours), want.size
    fd, end, bytes_at, offsets_at, crcs_at = want.shard.place(want.modality, want.first, count)
    row_bytes = columns * components
    return (
        offsets_at, crcs_at if check else 0, end, bytes_at, count, fd, rows * row_bytes,
        height, want.planes * width, components, want.planes, *want.within,
        want.out.__array_interface__["data"][0], row_bytes, row_bytes // want.planes,
    )  # fmt: skip
