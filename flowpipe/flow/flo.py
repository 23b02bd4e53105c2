"""Flow (H, W, 2) <-> .flo file of the Middlebury benchmark.

Four bytes ``PIEH`` (the float 202021.25), width and height as int32, then the rows from the top,
each pixel its u and v as float32; all little endian. Source: S. Baker et al., "A Database and
Evaluation Methodology for Optical Flow", IJCV 92 (2011), and the C++ code published with it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import write_atomic
from flowpipe.errors import FormatError
from flowpipe.words import count_noun

TAG = b"PIEH"
HEADER_BYTES = 12
LARGEST_SIDE_PX = 99_999  # limit of the benchmark; a header with more is damaged


def write_flo(path: str | os.PathLike[str], flow: NDArray[np.float32]) -> None:
    """Write a flow field atomically.

    Parameters
    ----------
    path : path
        File to write.
    flow : float32 (H, W, 2)
        (u, v) in pixels, u right, v down. Displacements above 1e9 mean unknown to the benchmark.

    Raises
    ------
    ValueError
        If `flow` is not a flow field.
    UsageError
        If the file cannot be written.
    """
    if flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"flow must be float32 (H, W, 2), got {flow.dtype} {flow.shape}")
    height, width = flow.shape[:2]
    if not _possible(width, height):
        raise ValueError(f"flow must have sides of 1 to {LARGEST_SIDE_PX}, got {width}x{height}")
    header = TAG + struct.pack("<ii", width, height)
    write_atomic(path, header + flow.astype("<f4").tobytes(), "flow")


def read_flo(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a flow field.

    Parameters
    ----------
    path : path
        File to read.

    Returns
    -------
    float32 (H, W, 2)
        (u, v) in pixels, as in the file; values above 1e9 mean unknown.

    Raises
    ------
    FormatError
        If the file cannot be read (``missing``), is not a .flo file, or has not the length that
        its width and height require.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FormatError(
            f"flow {path} cannot be read: {error.strerror}", reason="missing"
        ) from error
    if content[:4] != TAG:
        raise FormatError(f"{path} is no .flo file: it starts with {content[:4]!r}, not {TAG!r}")
    if len(content) < HEADER_BYTES:
        raise FormatError(
            f"{path} ends inside its header, after {count_noun(len(content), 'byte')}"
        )
    width, height = struct.unpack_from("<ii", content, 4)
    if not _possible(width, height):
        raise FormatError(
            f"{path} says that it has {count_noun(width, 'column')} and "
            f"{count_noun(height, 'row')}; wanted 1 to {LARGEST_SIDE_PX} of each: the file is "
            "damaged"
        )
    wanted = HEADER_BYTES + 8 * width * height
    if len(content) != wanted:
        raise FormatError(
            f"{path} has {count_noun(len(content), 'byte')}; a flow of {width}x{height} has "
            f"{wanted}: the file is damaged, fetch or compute it again"
        )
    values = np.frombuffer(content, "<f4", offset=HEADER_BYTES)
    return values.reshape(height, width, 2).astype(np.float32)


def _possible(width: int, height: int) -> bool:
    return 1 <= width <= LARGEST_SIDE_PX and 1 <= height <= LARGEST_SIDE_PX
