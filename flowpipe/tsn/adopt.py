"""Weights of another system + facts of a run -> a run folder, to test or to train further."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES
from flowpipe.tsn import run_folder
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.network.backbones import build
from flowpipe.tsn.network.model import make_model
from flowpipe.tsn.recipe import RUN_FILE, StreamParams
from flowpipe.tsn.run_folder import LAST, RunFacts
from flowpipe.tsn.weights.checkpoints import SYSTEMS, in_other_order, kind_of, to_ours
from flowpipe.tsn.weights.files import WeightFile, find_misfit, open_weights
from flowpipe.words import count_noun

THEIRS = ("sampling", "pixels", "consensus", "dropout")
"""Fields of `StreamParams` that an adopted run takes from the system of its weights."""


def adopt(
    checkpoint: Path,
    run: Path,
    facts: RunFacts,
    class_order: Sequence[int] | None = None,
    given: Collection[str] = (),
) -> RunFacts:
    """Create a run from weights of another system.

    Parameters
    ----------
    checkpoint : Path
        A checkpoint of tsn-pytorch, mmaction2 or flowpipe, a .caffemodel, or a file of PyTorch with
        the names of Caffe's layers; what it holds is never executed.
    run : Path
        Folder of the new run.
    facts : RunFacts
        Facts of the new run, which the weights do not contain.
    class_order : sequence of int, optional
        The output of class k is the checkpoint's output `class_order` [k].
    given : collection of str
        Fields of `THEIRS` that keep their value in `facts`.

    Returns
    -------
    RunFacts
        Facts of the run: `facts` with the system of the weights and its settings.

    Raises
    ------
    FormatError
        If the weights are not of this network, modality and number of classes.
    """
    file = open_weights(checkpoint)
    kind, ours = kind_of(file.values), to_ours(file.values)
    theirs = {n: v for n, v in _settings(file, kind, facts.modality).items() if n not in given}
    facts = replace(
        facts, stream=replace(facts.stream, **theirs), adopted="flowpipe" if file.ours else kind
    )
    backbone, row = build(facts.stream.backbone, "random", input_size=facts.stream.input_size)
    channels = InputSpec(facts.modality, facts.stream.snippet_length, facts.stored).channels
    model = make_model(backbone, row, len(facts.class_names), channels, facts.stream)
    if wrong := find_misfit(model.state_dict(), ours):
        raise FormatError(
            f"{checkpoint} is no {facts.stream.backbone} for {facts.modality} with snippets of "
            f"{facts.stream.snippet_length} and "
            f"{count_noun(len(facts.class_names), 'class', 'classes')}: {wrong}; for another "
            f"backbone add --set streams.{facts.modality}.backbone=NAME, and for other classes and "
            "inputs take the backbone alone with flowpipe train --weights"
        )
    if class_order is not None:
        ours = in_other_order(ours, class_order)
    model.load_state_dict(ours, strict=False)
    facts.write(run)
    run_folder.save(run / LAST, {"model": model.state_dict()})
    return facts


def adopted_recipe(stream: StreamParams, run: Path, given: Collection[str]) -> StreamParams:
    """Return a stream with the settings that an adopted run took from the system of its weights.

    Settings in `given` are kept, and so are all settings of runs that are not adopted.

    Parameters
    ----------
    stream : StreamParams
        Settings of the recipe and the command line.
    run : Path
        Folder of the run.
    given : collection of str
        Names of the settings that the user gave.

    Returns
    -------
    StreamParams
        Settings to test with.
    """
    if not (run / RUN_FILE).exists():
        return stream
    facts = RunFacts.read(run)
    if not facts.adopted:
        return stream
    kept = {name: getattr(facts.stream, name) for name in THEIRS if name not in given}
    return replace(stream, **kept)


def _settings(file: WeightFile, kind: str, modality: str) -> dict[str, Any]:
    """Return the values of `THEIRS` that weights were trained with; empty if unknown."""
    if file.ours:
        return {name: getattr(file.facts.stream, name) for name in THEIRS} if file.facts else {}
    system = SYSTEMS[kind]
    dropout = system.flow_dropout if MODALITIES[modality].is_flow else system.dropout
    return dict(
        zip(THEIRS, (system.sampling, system.pixels, system.consensus, dropout), strict=True)
    )
