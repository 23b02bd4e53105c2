"""Weights of a trained or published network -> the backbone of a new one.

The classifier and the consensus of the new network keep their initial weights. Its first layer is
adapted if the modality or the snippet length differs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowpipe.errors import FormatError, UsageError
from flowpipe.modality import MODALITIES, Modality, are_colours
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.data.normalisation import NORMALISATIONS
from flowpipe.tsn.network.backbones import NETWORKS, BackboneRow, backbone_weights
from flowpipe.tsn.network.model import TSN, first_conv
from flowpipe.tsn.recipe import StreamParams
from flowpipe.tsn.run_folder import LAST, RunFacts
from flowpipe.tsn.weights.checkpoints import SYSTEMS, system_of, to_ours
from flowpipe.tsn.weights.files import (
    WeightFile,
    Weights,
    find_misfit,
    open_weights,
    squeeze_statistics,
)
from flowpipe.words import count_noun

_BACKBONE = "base_model."


def initialise_backbone(
    model: TSN, row: BackboneRow, input: InputSpec, stream: StreamParams, path: Path
) -> str:
    """Initialise the backbone of a new network with the weights of a file or a run.

    Parameters
    ----------
    model : TSN
        Changed in place.
    row : BackboneRow
        Backbone of the network.
    input : InputSpec
        Input of the new network.
    stream : StreamParams
        Settings of the new network; `init` decides the first layer if the modality differs.
    path : Path
        A run folder or one of its checkpoints; a checkpoint of tsn-pytorch, mmaction or Caffe-TSN;
        or a file of the backbone's weights, such as ImageNet's.

    Returns
    -------
    str
        A line for the log: which weights were taken and which were not.

    Raises
    ------
    FormatError
        If the weights are not of this backbone.
    """
    file = open_weights(path)
    source = _PretrainedWeights.of(file, row)
    if file.facts and file.facts.stream.backbone != stream.backbone:
        raise FormatError(
            f"{file.path} is a run of {file.facts.stream.backbone}, and this stream trains "
            f"{stream.backbone}; --set streams.{input.modality}.backbone="
            f"{file.facts.stream.backbone} changes it"
        )
    own = model.base_model.state_dict()
    values = squeeze_statistics(source.values, own)
    name = _first_weight(model)
    first, words = None, ""
    if name in values and values[name].shape[:1] + values[name].shape[2:] == (
        own[name].shape[:1] + own[name].shape[2:]
    ):
        first, words = _first_layer(values[name], source.modality, input, stream.init)
        values[name] = own[name] if first is None else first
    if wrong := find_misfit(own, values):
        raise FormatError(
            f"{file.path} does not fit {stream.backbone}: it has {source.description}"
            f"{_describe_match(values)}; {wrong}"
        )
    model.base_model.load_state_dict(values, strict=False)
    taken = sum(n in values and not n.endswith("num_batches_tracked") for n in own)
    taken -= first is None
    return (
        f"{file.path}: {source.description}; {count_noun(taken, 'weight')} of the backbone taken, "
        f"first layer {words}; not taken: {source.rest}{_other_pixels(source, stream, row, input)}"
    )


def run_beside(run: Path, facts: RunFacts) -> Path:
    """Return the run of the recipe's `init_stream`, whose network initialises a new one.

    Parameters
    ----------
    run : Path
        Folder of the new run; its parent folder is searched.
    facts : RunFacts
        Facts of the new run; the other run must have the same split, classes and store recipe.

    Returns
    -------
    Path
        Folder of the other run.

    Raises
    ------
    UsageError
        If there is no such run, or more than one.
    """
    modality = facts.stream.init_stream
    wanted = (modality, facts.split, facts.class_names, facts.recipe_digest)
    found = []
    for path in sorted(file.parent for file in run.parent.glob(f"*/{LAST}")):
        with suppress(FormatError):
            other = RunFacts.read(path)
            own = (other.modality, other.split, other.class_names, other.recipe_digest)
            found += [path] * (own == wanted)
    if len(found) == 1:
        return found[0]
    there = f"{len(found)} lie there: {', '.join(map(str, found))}" if found else "none lies there"
    raise UsageError(
        f"the recipe begins {facts.modality} with the trained network of {modality}, split "
        f"{facts.split}, which is searched beside {run}, and {there}; train it first, give it with "
        f"--weights RUN, or begin without by --set \"streams.{facts.modality}.init_stream=''\""
    )


@dataclass(frozen=True)
class _PretrainedWeights:
    """Weights of a backbone and their origin, as far as it is known."""

    values: Weights
    """Tensors by the backbone's names."""
    description: str
    """Description of the file for messages."""
    rest: str
    """Description of the other weights in the file."""
    modality: str = ""
    """Modality that they were trained on; empty if unknown."""
    pixels: str = ""
    """Input normalisation that they expect, as in `StreamParams`; empty if unknown."""

    @classmethod
    def of(cls, file: WeightFile, row: BackboneRow) -> _PretrainedWeights:
        """Return the backbone weights of a file and their origin."""
        system = system_of(file.values)
        if system is None:
            values = backbone_weights(file.values, row)
            left = len(file.values) - len(values)
            rest = f"{count_noun(left, 'weight')} of the classifier" if left else "nothing"
            return cls(values, "the weights of a backbone alone", rest)
        ours = to_ours(file.values)
        backbone = {
            name.removeprefix(_BACKBONE): value
            for name, value in ours.items()
            if name.startswith(_BACKBONE)
        }
        values = backbone_weights(backbone, row)
        rest = "the classifier of ImageNet" if len(values) < len(backbone) else "nothing"
        if "new_fc.bias" in ours:
            rest = f"the classifier of {count_noun(len(ours['new_fc.bias']), 'class', 'classes')}"
        if any(name.startswith("consensus.") for name in ours):
            rest += " and the consensus"
        facts = file.facts
        if facts:
            words = f"the weights of a run of {facts.stream.backbone} on {facts.modality}"
            return cls(values, words, rest, facts.modality, facts.stream.pixels)
        if file.ours:
            return cls(values, "the weights of a flowpipe checkpoint", rest)
        return cls(
            values, f"weights of {SYSTEMS[system].name}", rest, pixels=SYSTEMS[system].pixels
        )


def _first_weight(model: TSN) -> str:
    """Return the name of the weight of the backbone's first convolution."""
    first = first_conv(model.base_model)[2]
    return next(n for n, w in model.base_model.named_parameters() if w is first.weight)


def _first_layer(
    weight: Tensor, modality: str, input: InputSpec, init: str
) -> tuple[Tensor | None, str]:
    """Return the weights of a first layer for the channels of an input, and their description.

    The weights are None if the layer keeps its random ones.

    Parameters
    ----------
    weight : (outputs, channels, rows, columns)
    modality : str
        Modality that the weights were trained on; empty if unknown.
    input : InputSpec
    init : str
        As in `StreamParams`.
    """
    channels, own = weight.shape[1], MODALITIES[input.modality]
    came = MODALITIES[modality] if modality else _guess_modality(channels, own)
    same = came == own or (came is not None and came.is_flow and own.is_flow)
    same = same or (channels == input.channels and are_colours(channels))
    if same and channels == input.channels:
        return weight, "kept"
    if same:
        # The response to a snippet of equal images stays the same.
        old, new = channels // own.channels, input.length
        mean = weight.unflatten(1, (old, own.channels)).mean(1) * (old / new)
        words = f"the mean over {count_noun(old, 'image')}, for {count_noun(new, 'image')}"
        return mean.repeat(1, new, 1, 1), words
    if init == "cross_modality":
        mean = weight.mean(1, keepdim=True).expand(-1, input.channels, -1, -1).contiguous()
        wanted = count_noun(input.channels, "channel")
        return mean, f"the mean over {count_noun(channels, 'channel')}, for {wanted}"
    return None, (
        f"random, as init is {init} (--set streams.{input.modality}.init=cross_modality takes the "
        f"mean over its {count_noun(channels, 'channel')})"
    )


def _guess_modality(channels: int, own: Modality) -> Modality | None:
    """Guess the modality of weights from their number of channels; None if it fits none.

    A modality whose snippets are single images is taken first, then that of the new network.
    """
    rows = MODALITIES.values()
    single = [row for row in rows if row.snippet_length == 1 and channels == row.channels]
    several = [
        row for row in (own, *rows) if row.snippet_length > 1 and channels % row.channels == 0
    ]
    return next(iter([*single, *several]), None)


def _other_pixels(
    source: _PretrainedWeights, stream: StreamParams, row: BackboneRow, input: InputSpec
) -> str:
    """Return a warning if the weights expect another input normalisation, else an empty text."""
    name, own = source.pixels, NETWORKS.get(stream.backbone)
    if source.modality not in ("", input.modality) or not name or own is None:
        return ""
    images = torch.arange(0, 256, 51, dtype=torch.uint8).view(1, -1, 1, 1, 1)
    images = images.expand(-1, -1, MODALITIES[input.modality].channels, -1, -1)
    alone = InputSpec(input.modality, 1, input.modality)
    pixels = own.pixels if name == "backbone" else NORMALISATIONS[name]
    expected, here = alone.normalise(images, pixels), alone.normalise(images, row.pixels)
    return "" if torch.allclose(expected, here, atol=1e-3) else f"; they expect --pixels {name}"


def _describe_match(values: Weights) -> str:
    """Return which known network has these names, as part of a message; empty if none has."""
    for name, row in NETWORKS.items():
        with torch.device("meta"):
            own = row.build().state_dict()
        known = {n for n in own if not n.endswith("num_batches_tracked")}
        if known <= values.keys():
            return f" with the names of {name}"
    return ""
