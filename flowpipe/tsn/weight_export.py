"""Run folder -> a checkpoint with the names of tsn-pytorch or mmaction2, which they load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from flowpipe.errors import UsageError
from flowpipe.modality import MODALITIES
from flowpipe.tsn import run_folder
from flowpipe.tsn.data.normalisation import NORMALISATIONS, Normalisation
from flowpipe.tsn.network.backbones import NETWORKS
from flowpipe.tsn.run_folder import RunFacts
from flowpipe.tsn.weights.checkpoints import SYSTEMS, to_mmaction2, to_tsn_pytorch
from flowpipe.words import count_noun

_RESNETS = {f"resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}


@dataclass(frozen=True)
class WeightFormat:
    """A system that a run can be written for."""

    backbones: Mapping[str, str]
    """Backbones that it has, and its names for them."""
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


WEIGHT_FORMATS = {
    "tsn_pytorch": WeightFormat({"bninception": "BNInception", **_RESNETS}, to_tsn_pytorch),
    "mmaction2": WeightFormat(_RESNETS, to_mmaction2),
}


def export_weights(run: Path, checkpoint: str, system: str, out: Path) -> str:
    """Write the weights of a run as a checkpoint of another system.

    Parameters
    ----------
    run : Path
        Run folder.
    checkpoint : str
        Name of its checkpoint, such as ``last.pt``.
    system : str
        A key of `WEIGHT_FORMATS`.
    out : Path
        File to write.

    Returns
    -------
    str
        What was written and what input the network expects, in a line.

    Raises
    ------
    UsageError
        If the system lacks the backbone or the consensus of the run.
    FormatError
        If the run cannot be read.
    """
    facts, made = RunFacts.read(run), WEIGHT_FORMATS[system]
    words, stream = SYSTEMS[system].name, facts.stream
    if stream.backbone not in made.backbones:
        raise UsageError(
            f"{words} has no {stream.backbone}, which {run} trains; it has "
            f"{', '.join(made.backbones)}"
        )
    values = run_folder.read_checkpoint(run / checkpoint)
    weights = values["model"]
    if any(name.startswith("consensus.") for name in weights):
        raise UsageError(
            f"{words} averages snippets and has no place for the weights of the consensus "
            f"{stream.consensus} of {run}"
        )
    named = made.rename(weights)
    arch = made.backbones[stream.backbone]
    content: dict[str, Any] = {"state_dict": named}
    if system == "tsn_pytorch":
        best = 100.0 * max(0.0, float(values.get("best", 0.0)))
        content |= {"epoch": len(values.get("rows", ())), "arch": arch, "best_prec1": best}
    else:
        content["meta"] = {"dataset_meta": {"classes": list(facts.class_names)}}
    run_folder.save(out, content)
    averages = "" if "average" in stream.consensus else f" (trained with {stream.consensus})"
    return (
        f"{out}: {count_noun(len(named), 'weight')} of {arch} with the names of {words}, which "
        f"takes the average over snippets{averages}; {facts.modality}, "
        f"{count_noun(stream.snippet_length, 'image')} a snippet, "
        f"{count_noun(len(facts.class_names), 'class', 'classes')}; input {_normalisation(facts)}"
    )


def _normalisation(facts: RunFacts) -> str:
    """Return in words how bytes q become the input of a run's network."""
    name = facts.stream.pixels
    pixels = NETWORKS[facts.stream.backbone].pixels if name == "backbone" else NORMALISATIONS[name]
    mean, std, order = _mean_and_std(pixels, facts.modality)
    formula = f"(q - {_format_values(mean)}) / {_format_values(std)}"
    return f"{order}{formula}" if not pixels.turned_x else f"{order}{formula} with x as 255 - q"


def _mean_and_std(
    pixels: Normalisation, modality: str
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return mean and deviation of bytes, and the order of the colours in words."""
    row = MODALITIES[modality]
    order = ("BGR, " if pixels.bgr else "RGB, ") if row.is_colour else ""
    if row.difference_of:
        return (0.0,), (1 / pixels.difference_scale,), order
    if row.is_colour:
        scaled = [tuple(v / pixels.scale for v in values) for values in (pixels.mean, pixels.std)]
        return scaled[0], scaled[1], order
    return (pixels.flow_mean / pixels.scale,), (pixels.flow_std / pixels.scale,), order


def _format_values(values: tuple[float, ...]) -> str:
    text = ", ".join(f"{value:.6g}" for value in values)
    return f"[{text}]" if len(values) > 1 else text
