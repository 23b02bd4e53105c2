"""Shard file + stream -> the images whose bytes do not have their CRC."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flowpipe.store import layout
from flowpipe.store.shard import ShardStream

_READ_BYTES = 8 << 20


def bad_payloads(fd: int, stream: ShardStream, crc32: NDArray[np.uint32]) -> Iterator[int]:
    """Find the images whose bytes in the file do not have their CRC.

    Parameters
    ----------
    fd : int
        Descriptor of the shard's file.
    stream : ShardStream
        Tables of the stream.
    crc32 : uint32 (N,)
        CRC-32 of each image.

    Yields
    ------
    int
        Number of an image.
    """
    offset = stream.offset.tolist()
    k, count = 0, len(crc32)
    while k < count:
        end = k + 1
        while end < count and offset[end + 1] - offset[k] <= _READ_BYTES:
            end += 1
        block = memoryview(
            os.pread(fd, offset[end] - offset[k], stream.at[layout.BYTES.name] + offset[k])
        )
        for image in range(k, end):
            start = offset[image] - offset[k]
            if zlib.crc32(block[start : offset[image + 1] - offset[k]]) != crc32[image]:
                yield image
        k = end
