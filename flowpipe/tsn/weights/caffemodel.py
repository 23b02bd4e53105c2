"""A .caffemodel of Caffe -> weights by the names of its layers, such as ``conv1/7x7_s2.weight``.

The file is the protocol buffer ``NetParameter`` of caffe.proto, of which these fields are read:

    NetParameter      layer = 100, layers = 2 (before 2015)
    LayerParameter    name = 1, blobs = 7
    V1LayerParameter  name = 4, blobs = 6
    BlobProto         data = 5, shape = 7 (dim = 1); before 2015 num = 1, channels = 2, height = 3,
                      width = 4
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowpipe.errors import FormatError

_LAYERS = {100: (1, 7), 2: (4, 6)}
"""Field of a layer in the network -> fields of its name and its blobs."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PARTS = {
    1: ("weight",),
    2: ("weight", "bias"),
    4: ("weight", "bias", "running_mean", "running_var"),
}
"""Names of the blobs of a layer by their number; four are those of batch normalisation."""


def is_caffemodel(path: Path) -> bool:
    """Return whether the name of a file ends in ``.caffemodel`` or, say, ``.caffemodel.v5``.

    Others, such as ``bn.caffemodel.pth``, were converted.

    Parameters
    ----------
    path : Path
        File of weights.

    Returns
    -------
    bool
        True for a Caffe model, judged by its name.
    """
    return re.search(r"\.caffemodel(\.v\d+)?$", path.name) is not None


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Read the weights of all layers.

    Statistics of batch normalisation must be mean and variance, as in the published files that end
    in ``.v5``. Older files have the inverse deviation, which cannot be recognised.

    Parameters
    ----------
    path : Path
        File to read.

    Returns
    -------
    dict of str to Tensor
        Weights by name.

    Raises
    ------
    FormatError
        If the file is no Caffe model.
    """
    try:
        values = _weights(memoryview(path.read_bytes()))
    except FileNotFoundError as error:
        raise FormatError(f"no weights at {path}") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read as a Caffe model: {error}") from error
    if not values:
        raise FormatError(f"{path} is a Caffe model without weights")
    return values


def _weights(net: memoryview) -> dict[str, Tensor]:
    values = {}
    for field, layer in _fields(net):
        if field not in _LAYERS or not isinstance(layer, memoryview):
            continue
        named, blobs = _LAYERS[field]
        parts = [(f, value) for f, value in _fields(layer) if isinstance(value, memoryview)]
        name = next((bytes(value).decode() for f, value in parts if f == named), "")
        found = [_blob(value) for f, value in parts if f == blobs]
        if not found:
            continue
        if len(found) not in _PARTS:
            raise ValueError(f"layer {name} has {len(found)} blobs, wanted 1, 2 or 4")
        for part, value in zip(_PARTS[len(found)], found, strict=True):
            flat = part != "weight" or len(found) == 4
            values[f"{name}.{part}"] = value.flatten() if flat else value
    return values


def _blob(data: memoryview) -> Tensor:
    """Return the values of a blob; (1, 1, outputs, inputs) of old files becomes a matrix."""
    numbers: list[bytes] = []
    shape: list[int] = []
    old = [0, 0, 0, 0]
    for field, value in _fields(data):
        if field == 5 and isinstance(value, memoryview):
            numbers.append(bytes(value))
        elif field == 7 and isinstance(value, memoryview):
            for number, dims in _fields(value):
                if number == 1:
                    shape += list(_varints(dims)) if isinstance(dims, memoryview) else [dims]
        elif field in (1, 2, 3, 4) and isinstance(value, int):
            old[field - 1] = value
    if not shape:
        shape = old[2:] if old[:2] == [1, 1] else old
    values = np.frombuffer(b"".join(numbers), "<f4")
    if len(values) != np.prod(shape, dtype=np.int64):
        raise ValueError(f"a blob of shape {shape} has {len(values)} values")
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: varints as int, others as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"there is no wire type {kind}")
        if at + size > len(data):
            raise ValueError("it ends inside a field")
        yield tag >> 3, data[at : at + size]
        at += size


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, the lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number has more than ten bytes")
