"""Weights of tsn-pytorch, mmaction and Caffe-TSN <-> ours, by name.

    tsn-pytorch   module.base_model.<layer>.weight, module.new_fc.weight; base_model.fc if it was
                  trained without dropout
    mmaction2     backbone.conv1.conv.weight, backbone.layer1.0.conv1.bn.weight,
                  cls_head.fc_cls.weight
    mmaction1     backbone.conv1_7x7_s2.weight, cls_head.fc_cls.weight: BN-Inception, which
                  mmaction 0.1 had and mmaction2 has not
    caffe         conv1/7x7_s2.weight, inception_3a/1x1_bn.running_var, fc-action.weight: names of
                  the layers, whatever program converted them

Ours are tsn-pytorch's without ``module.``. Statistics may have the shape [1, C].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from flowpipe.errors import FormatError
from flowpipe.words import list_some

Weights = dict[str, Tensor]

_MM_LAYER = re.compile(r"(layer\d+\.\d+\.)(conv|downsample)(\d?)\.(conv|bn)\.(.+)")
_OUR_LAYER = re.compile(r"(layer\d+\.\d+\.)(conv|bn|downsample\.)(\d)\.(.+)")


@dataclass(frozen=True, kw_only=True)
class System:
    """A system that saved weights."""

    name: str
    """Name in messages."""
    rename: Callable[[str], str]
    """Function from its name of a weight to ours; empty for values that are no weights."""
    pixels: str
    """Input normalisation that its weights expect, as in `StreamParams`."""
    sampling: str
    """Its sampling strategy, as in `StreamParams`."""
    consensus: str
    """Its consensus, as in `StreamParams`."""
    dropout: float
    """Dropout of its networks of RGB and RGB differences."""
    flow_dropout: float
    """Dropout of its networks of flow."""


def system_of(values: Mapping[str, Tensor]) -> str | None:
    """Recognise the system that saved weights by their names.

    Parameters
    ----------
    values : mapping of str to Tensor
        Weights by name.

    Returns
    -------
    str or None
        A key of `SYSTEMS`; None if none of them did.
    """
    names = [name.removeprefix("module.") for name in values]
    if any(name.startswith("base_model.") for name in names):
        return "tsn_pytorch"
    if any(name.startswith("backbone.") for name in names):
        bn_inception = any(name.startswith("backbone.conv1_7x7_s2.") for name in names)
        return "mmaction1" if bn_inception else "mmaction2"
    if any("/" in name or name.startswith("fc-action.") for name in names):
        return "caffe"
    return None


def kind_of(values: Mapping[str, Tensor]) -> str:
    """Recognise the system that saved weights; one must have.

    Parameters
    ----------
    values : mapping of str to Tensor
        Weights by name.

    Returns
    -------
    str
        A key of `SYSTEMS`.

    Raises
    ------
    FormatError
        If none of them did.
    """
    system = system_of(values)
    if system is None:
        raise FormatError(
            "neither tsn-pytorch's, mmaction's nor Caffe's names of weights; they begin with "
            f"{list_some(list(values))}"
        )
    return system


def to_ours(values: Mapping[str, Tensor]) -> Weights:
    """Rename the weights of another system to our names.

    Parameters
    ----------
    values : mapping of str to Tensor
        Weights by the system's names, by which it is recognised.

    Returns
    -------
    Weights
        Weights by our names.

    Raises
    ------
    FormatError
        If it is none of `SYSTEMS`.
    """
    rename = SYSTEMS[kind_of(values)].rename
    renamed = {rename(name.removeprefix("module.")): value for name, value in values.items()}
    return {
        name: value[0] if _is_norm_row(name, value) else value
        for name, value in renamed.items()
        if name
    }


def to_tsn_pytorch(values: Mapping[str, Tensor]) -> Weights:
    """Rename our weights to tsn-pytorch's names.

    Parameters
    ----------
    values : mapping of str to Tensor
        Weights by our names.

    Returns
    -------
    Weights
        Weights by tsn-pytorch's names.
    """
    return {f"module.{name}": value for name, value in values.items()}


def to_mmaction2(values: Mapping[str, Tensor]) -> Weights:
    """Rename our weights of a ResNet to mmaction2's names.

    Parameters
    ----------
    values : mapping of str to Tensor
        Weights by our names.

    Returns
    -------
    Weights
        Weights by mmaction2's names.

    Raises
    ------
    FormatError
        If there is a weight that no ResNet has.
    """
    return {_mmaction2_name(name): value for name, value in values.items()}


def in_other_order(values: Weights, order: Sequence[int]) -> Weights:
    """Reorder the classes of weights.

    Parameters
    ----------
    values : Weights
        Weights by our names.
    order : sequence of int
        Former class of each new class.

    Returns
    -------
    Weights
        Weights with the classifier's rows reordered.
    """
    changed = dict(values)
    for name in ("new_fc.weight", "new_fc.bias"):
        changed[name] = values[name][list(order)]
    return changed


def _from_tsn_pytorch(name: str) -> str:
    # Without dropout the classifier stays in its place.
    return re.sub(r"^base_model\.(fc|last_linear)\.", "new_fc.", name)


def _from_mmaction2(name: str) -> str:
    if name.startswith("cls_head.fc_cls."):
        return name.replace("cls_head.fc_cls.", "new_fc.")
    if not name.startswith("backbone."):
        return ""  # means and deviations of its preprocessor
    name = name.removeprefix("backbone.")
    found = _MM_LAYER.fullmatch(name)
    if found:
        start, kind, number, part, rest = found.groups()
        if kind == "downsample":
            return f"base_model.{start}downsample.{0 if part == 'conv' else 1}.{rest}"
        return f"base_model.{start}{part}{number}.{rest}"
    name = name.replace("conv1.conv.", "conv1.").replace("conv1.bn.", "bn1.")
    return f"base_model.{name}"


def _mmaction2_name(name: str) -> str:
    if name.startswith("new_fc."):
        return name.replace("new_fc.", "cls_head.fc_cls.")
    name = name.removeprefix("base_model.")
    found = _OUR_LAYER.fullmatch(name)
    if found:
        start, kind, number, rest = found.groups()
        if kind == "downsample.":
            return f"backbone.{start}downsample.{'conv' if number == '0' else 'bn'}.{rest}"
        return f"backbone.{start}conv{number}.{kind}.{rest}"
    if name.startswith("bn1."):
        return f"backbone.conv1.bn.{name.removeprefix('bn1.')}"
    if name.startswith("conv1."):
        return f"backbone.conv1.conv.{name.removeprefix('conv1.')}"
    raise FormatError(f"{name} is no weight of a ResNet, the only backbone that mmaction2 shares")


def _from_caffe(name: str) -> str:
    if name.startswith("fc-action."):
        return name.replace("fc-action.", "new_fc.")
    return f"base_model.{name.replace('/', '_')}"


SYSTEMS = {
    "tsn_pytorch": System(
        name="tsn-pytorch",
        rename=_from_tsn_pytorch,
        pixels="backbone",
        sampling="tsn_pytorch",
        consensus="average",
        dropout=0.8,
        flow_dropout=0.7,
    ),
    "mmaction1": System(
        name="mmaction 0.1",
        rename=_from_mmaction2,
        pixels="mmaction1",
        sampling="tsn_pytorch",
        consensus="feature_average",
        dropout=0.8,
        flow_dropout=0.7,
    ),
    "mmaction2": System(
        name="mmaction2",
        rename=_from_mmaction2,
        pixels="mmaction2",
        sampling="mmaction2",
        consensus="feature_average",
        dropout=0.4,
        flow_dropout=0.4,
    ),
    "caffe": System(
        name="Caffe-TSN",
        rename=_from_caffe,
        pixels="caffe",
        sampling="caffe",
        consensus="average",
        dropout=0.8,
        flow_dropout=0.7,
    ),
}
"""Systems by the names that `system_of` returns, with the settings of their published networks:
README of tsn-pytorch, models/*.prototxt of temporal-segment-networks, configs/recognition/tsn of
mmaction2."""


def system_name(system: str) -> str:
    """Return the name of a system in messages.

    Parameters
    ----------
    system : str
        A key of `SYSTEMS`, or another name.

    Returns
    -------
    str
        Name; ``flowpipe`` and unknown ones as they are.
    """
    return SYSTEMS[system].name if system in SYSTEMS else system


def _is_norm_row(name: str, value: Tensor) -> bool:
    """Return whether these are values of batch normalisation in the old shape [1, C]."""
    return value.dim() == 2 and value.shape[0] == 1 and not name.startswith("new_fc.")
