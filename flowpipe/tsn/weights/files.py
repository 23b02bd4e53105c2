"""A file or a run -> weights by name, and what keeps them from fitting a network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowpipe.errors import FormatError
from flowpipe.tsn.recipe import RUN_FILE
from flowpipe.tsn.run_folder import LAST, RunFacts, reason_of, there_are
from flowpipe.tsn.weights.caffemodel import is_caffemodel, read_caffemodel
from flowpipe.words import count_noun, list_some

Weights = dict[str, Tensor]

_CONTAINERS = ("model", "state_dict")
"""Keys under which a run and other systems save their weights beside other values."""


@dataclass(frozen=True)
class WeightFile:
    """Weights of a file, by name."""

    path: Path
    values: Weights
    """Tensors by the names that the saving system gave them."""
    ours: bool = False
    """True if flowpipe saved them, such as last.pt or best.pt of a run."""
    facts: RunFacts | None = None
    """Facts of that run; None if the file was taken out of its folder."""


def open_weights(path: Path) -> WeightFile:
    """Read the weights of a file, or those of the last checkpoint of a run folder.

    Nothing that the file holds is executed.

    Parameters
    ----------
    path : Path
        Run folder, or file of weights.

    Returns
    -------
    WeightFile
        Weights, and what is known of them.

    Raises
    ------
    FormatError
        If it is no run and no file of weights.
    """
    if path.is_dir():
        if not (path / RUN_FILE).exists():
            raise FormatError(
                f"{path} is a folder without {RUN_FILE}: wanted a run of flowpipe train or a file "
                "of weights"
            )
        path = path / LAST
    if is_caffemodel(path):
        return WeightFile(path, read_caffemodel(path))
    try:
        content = _content(path)
    except FileNotFoundError as error:
        hint = f"; {there_are(path.parent)}" if (path.parent / RUN_FILE).exists() else ""
        raise FormatError(f"no weights at {path}{hint}") from error
    except Exception as error:  # whatever a file that is no pickle makes of its reader
        raise FormatError(
            f"{path} cannot be read as weights: wanted a file that torch.save wrote, or a "
            f".caffemodel; torch says: {reason_of(error)}"
        ) from error
    found = next((key for key in _CONTAINERS if _is_dict(content, key)), None)
    values = content[found] if found else content
    if not isinstance(values, dict) or not all(isinstance(v, Tensor) for v in values.values()):
        raise FormatError(
            f"{path} holds no weights by name: wanted a dictionary of tensors, or one under "
            f"{' or '.join(_CONTAINERS)}"
        )
    ours = found == "model"
    in_run = ours and (path.parent / RUN_FILE).exists()
    return WeightFile(path, values, ours, RunFacts.read(path.parent) if in_run else None)


def read_weights(path: Path) -> Weights:
    """Read the weights of a file; see `open_weights`.

    Parameters
    ----------
    path : Path
        Run folder, or file of weights.

    Returns
    -------
    Weights
        Weights by name.
    """
    return open_weights(path).values


def squeeze_statistics(values: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Weights:
    """Give statistics of batch normalisation the shape of the network's.

    Those of the published BN-Inception have the shape [1, C].

    Parameters
    ----------
    values : mapping of str to Tensor
        Weights to load.
    own : mapping of str to Tensor
        Weights of the network.

    Returns
    -------
    Weights
        Weights with statistics of the shape [C].
    """
    return {
        name: value[0]
        if name in own and own[name].dim() == 1 and value.dim() == 2 and value.shape[0] == 1
        else value
        for name, value in values.items()
    }


def find_misfit(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> str:
    """Describe why weights do not fit a network.

    Parameters
    ----------
    own : mapping of str to Tensor
        Weights of the network.
    values : mapping of str to Tensor
        Weights to load.

    Returns
    -------
    str
        Description; empty if they fit.
    """
    missing, strange = (
        [n for n in those if n not in others and not n.endswith("num_batches_tracked")]
        for those, others in ((own, values), (values, own))
    )
    shapes = [n for n in own if n in values and values[n].shape != own[n].shape]
    parts = []
    if missing:
        parts.append(f"{count_noun(len(missing), 'weight')} missing ({list_some(missing)})")
    if strange:
        parts.append(f"{len(strange)} unknown ({list_some(strange)})")
    parts += [
        f"{name} is {tuple(values[name].shape)} and not {tuple(own[name].shape)}"
        for name in shapes[:1]
    ]
    if len(shapes) > 1:
        parts.append(f"{len(shapes) - 1} more of another shape")
    return ", ".join(parts)


class _InertObject:
    """Stand-in for objects of other packages beside weights, such as mmengine's buffers of logs.

    It takes whatever a pickle gives it and does nothing.
    """

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass


def _content(path: Path) -> Any:
    """Return the contents of a file without executing its code; raises as `torch.load` does."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except (ValueError, AttributeError):  # a file of torch before 1.6; torch before 2.6
            names = []
        if not names:
            raise
        with torch.serialization.safe_globals([(_InertObject, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _is_dict(content: object, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), dict)
