"""Open shard -> its seal: the SHA-256 of all tables."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.store import layout

_BLOCK_BYTES = 8 << 20


def compute_seal(file: h5py.File) -> str:
    """Return the SHA-256 of names, attributes, dtypes, shapes and values of all tables.

    Payloads and the seal itself are left out.

    Parameters
    ----------
    file : h5py.File
        Open shard.

    Returns
    -------
    str
        Hexadecimal SHA-256.
    """
    digest = hashlib.sha256()

    def text(value: str | bytes) -> None:
        content = value.encode() if isinstance(value, str) else value
        digest.update(len(content).to_bytes(8, "little") + content)

    names: list[str] = []
    file.visit(names.append)
    for name in ["/", *sorted(names)]:
        node = file[name]
        text(name)
        for key in sorted(node.attrs):
            if name != "/" or key != layout.ATTR_SEAL:
                text(key)
                text(str(node.attrs[key]))
        if isinstance(node, h5py.Dataset):
            text("text" if h5py.check_string_dtype(node.dtype) else node.dtype.str)
            text(str(node.shape))
            if name.rpartition("/")[2] == layout.BYTES.name:
                continue
            if h5py.check_string_dtype(node.dtype):
                for value in node[()]:
                    text(value)
            else:
                for block in _blocks(node):
                    digest.update(block.data)
    return digest.hexdigest()


def _blocks(table: h5py.Dataset) -> Iterator[NDArray[Any]]:
    """Yield the values of a dataset in C order, a few megabytes at a time."""
    if not table.shape:
        yield np.ascontiguousarray(table[()])
        return
    row_bytes = max(1, table.dtype.itemsize * math.prod(table.shape[1:]))
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, table.shape[0], rows):
        yield np.ascontiguousarray(table[start : start + rows])
