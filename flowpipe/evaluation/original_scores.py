"""Score files of the original code (.npz of TSN's and tsn-pytorch's tests) -> Scores."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.evaluation.scores import Scores
from flowpipe.words import count_noun

_ALLOWED = {
    ("_codecs", "encode"), ("numpy", "dtype"), ("numpy", "ndarray"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    ("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer"),
}  # fmt: skip
"""Names that pickled arrays need; a file with others is refused, since they could run code."""
_WANTED = (
    "wanted what --save_scores of TSN's eval_net.py or tsn-pytorch's test_models.py writes: scores "
    "(videos, 2) of arrays (snippets, crops, classes), and labels"
)


def read_original_scores(
    path: Path, rows: Sequence[str] = (), crops: Literal["mean", "max"] = "mean"
) -> Scores:
    """Read a score file of the original code, with its labels.

    Scores of crops are pooled first, then those of snippets are averaged, as eval_scores.py does.

    Parameters
    ----------
    path : Path
        An .npz file.
    rows : sequence of str, optional
        Ids of the videos in the order of the file, which has no names. By default their numbers.
    crops : {"mean", "max"}
        Pooling of the crops.

    Returns
    -------
    Scores
        Scores and labels.

    Raises
    ------
    FormatError
        If the file is another one, or `rows` has another number of videos.

    Notes
    -----
    Source: https://github.com/yjxiong/temporal-segment-networks, tools/eval_net.py and
    tools/eval_scores.py; https://github.com/yjxiong/tsn-pytorch, test_models.py.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            scores, labels = (_array(archive.read(f"{name}.npy")) for name in ("scores", "labels"))
        videos = [np.asarray(row[0], np.float64) for row in scores]
        classes = {one.shape[2] for one in videos}
        if not videos or len(classes) != 1 or len(labels) != len(videos):
            counts = count_noun(len(videos), "video"), count_noun(len(labels), "label")
            raise ValueError(f"{' and '.join(counts)}, of {sorted(classes)} classes")
        values = np.stack([getattr(one, crops)(1).mean(0) for one in videos])
        positives = np.zeros(values.shape, bool)
        positives[np.arange(len(labels)), labels.astype(np.int64)] = True
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # whatever damage makes of a pickle
        raise FormatError(f"{path} cannot be read as scores: {error!r}; {_WANTED}") from error
    if rows and len(rows) != len(values):
        raise FormatError(
            f"{path} has {count_noun(len(values), 'video')}, and the list of its rows has "
            f"{len(rows)}"
        )
    names = tuple(rows) or tuple(str(number) for number in range(len(values)))
    return Scores(str(path), names, values, positives)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of arrays that refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise FormatError(
                f"its pickle names {module}.{name}, which no array needs; it is not read"
            )
        return super().find_class(module, name)


def _array(content: bytes) -> NDArray[Any]:
    """Read an .npy file, also one of objects, which NumPy reads only by running their pickle."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
    }[version]  # fmt: skip
    shape, _, dtype = read(file)
    if not dtype.hasobject:
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    # Python 2 wrote bytes, as latin-1
    made = _ArrayUnpickler(file, encoding="latin1").load()
    return np.asarray(made, object).reshape(shape)
