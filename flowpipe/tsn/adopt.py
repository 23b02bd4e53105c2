"""Weights of another system + what they are for -> a run folder, to test or to train further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowpipe.errors import FormatError
from flowpipe.tsn import run_folder
from flowpipe.tsn.backbones import build
from flowpipe.tsn.checkpoints import in_other_order, kind_of, to_ours
from flowpipe.tsn.inputs import Input
from flowpipe.tsn.model import make_model
from flowpipe.tsn.run_folder import LAST, RunFacts
from flowpipe.tsn.weight_files import read_weights
from flowpipe.words import counted


def adopt(
    checkpoint: Path, run: Path, facts: RunFacts, class_order: Sequence[int] | None = None
) -> str:
    """Make a run of weights.

    Parameters
    ----------
    checkpoint : Path
        Of tsn-pytorch, mmaction2 or converted from Caffe; what it holds is never executed.
    run : Path
        Folder of the new run.
    facts : RunFacts
        What the weights are for; they do not say it themselves.
    class_order : sequence of int, optional
        The output of class k is the checkpoint's output `class_order` [k].

    Returns
    -------
    str
        Whose weights they were: ``tsn_pytorch``, ``mmaction2`` or ``caffe``.

    Raises
    ------
    FormatError
        If the weights are not of this network, modality and number of classes.
    """
    values = read_weights(checkpoint)
    kind, ours = kind_of(values), to_ours(values)
    backbone, row = build(facts.stream.backbone, "random")
    channels = Input(facts.modality, facts.stream.snippet_length, facts.stored).channels
    model = make_model(backbone, row, len(facts.class_names), channels, facts.stream)
    own = model.state_dict()
    wanted = {n for n in own if not n.endswith("num_batches_tracked")}
    missing, strange = sorted(wanted - set(ours)), sorted(set(ours) - set(own))
    shapes = sorted(n for n in wanted & set(ours) if own[n].shape != ours[n].shape)
    if missing or strange or shapes:
        first = next(iter((*shapes, *missing, *strange)))
        detail = (
            f"{first} is {tuple(ours[first].shape)} and not {tuple(own[first].shape)}"
            if shapes
            else f"{counted(len(missing), 'weight')} missing, {len(strange)} unknown, as {first}"
        )
        raise FormatError(
            f"{checkpoint} is no {facts.stream.backbone} for {facts.modality} with snippets of "
            f"{facts.stream.snippet_length} and "
            f"{counted(len(facts.class_names), 'class', 'classes')}: {detail}"
        )
    if class_order is not None:
        ours = in_other_order(ours, class_order)
    model.load_state_dict(ours, strict=False)
    facts.write(run)
    run_folder.save(run / LAST, {"model": model.state_dict()})
    return kind
