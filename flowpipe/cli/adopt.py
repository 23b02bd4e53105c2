"""`flowpipe adopt`: a checkpoint of another system -> a run folder."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli.networks import apply_options, list_given_options, stream_options, train_recipe
from flowpipe.cli.paths import FILE_THERE, FOLDER
from flowpipe.cli.screen import say
from flowpipe.cli.store_options import STORE_ARGUMENT, stored_dataset
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.datasets.hmdb51 import TSN_ORDER
from flowpipe.store import open_store


@click.command()
@STORE_ARGUMENT
@click.argument("checkpoint", type=FILE_THERE)
@click.option("-o", "--out", "run", required=True, type=FOLDER,
              help="Run folder to write.")  # fmt: skip
@stream_options
@click.option("--tsn-hmdb51-labels", is_flag=True,
              help="Labels follow TSN's list of HMDB51: kick_ball before kick.")  # fmt: skip
def adopt(
    store: Path,
    checkpoint: Path,
    run: Path,
    modality: str,
    split: int,
    recipe_file: str | None,
    settings: tuple[str, ...],
    sampling: str | None,
    pixels: str | None,
    tsn_hmdb51_labels: bool,
) -> None:
    """Turn a CHECKPOINT of tsn-pytorch, mmaction2 or Caffe-TSN into a run on a STORE.

    \b
    flowpipe adopt store ucf101_bninception_flow_checkpoint.pth.tar --modality flow -o runs/flow1
    flowpipe test store runs/flow1 -o flow1.h5

    The recipe names the backbone; --set streams.MODALITY.backbone=bninception changes it.

    The names of the weights show which system trained them. The system determines sampling, pixels,
    consensus and dropout, whatever the recipe says; --sampling, --pixels and --set
    streams.MODALITY.dropout=0.5 override them. `flowpipe train` with the same options continues the
    training; `flowpipe train --weights` uses the backbone for other classes.
    """
    torch_or_why()
    from flowpipe.tsn.adopt import THEIRS
    from flowpipe.tsn.adopt import adopt as adopt_weights
    from flowpipe.tsn.data.inputs import input_spec
    from flowpipe.tsn.run_folder import RunFacts
    from flowpipe.tsn.weights.checkpoints import system_name

    made = apply_options(
        train_recipe(store, recipe_file, settings), modality, sampling=sampling, pixels=pixels
    )
    opened, stream = open_store(store), made.streams[modality]
    facts = RunFacts(
        modality=modality,
        split=split,
        stored=input_spec(modality, stream.snippet_length, opened.modalities).stored,
        stream=stream,
        test=made.test,
        seed=1,
        class_names=opened.header.class_names,
        dataset=stored_dataset(store),
        recipe_digest=opened.header.recipe_digest,
        extraction=opened.header.recipe,
        fusion=made.fusion,
    )
    given = list_given_options(modality, settings, sampling=sampling, pixels=pixels)
    order = TSN_ORDER if tsn_hmdb51_labels else None
    facts = adopt_weights(checkpoint, run.absolute(), facts, order, given)
    chosen = ", ".join(
        f"{name} {getattr(facts.stream, name)}{' (as given)' if name in given else ''}"
        for name in THEIRS
    )
    say(
        f"{run}: weights of {system_name(facts.adopted)}: {chosen}, test protocol "
        f"{facts.test.protocol}; next: flowpipe test {store} {run} -o scores.h5"
    )
