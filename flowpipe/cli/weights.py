"""`flowpipe weights`: a run folder -> a checkpoint of tsn-pytorch or mmaction2."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.folders import RUN
from flowpipe.cli.paths import FILE
from flowpipe.cli.screen import say
from flowpipe.cli.store_options import check_output
from flowpipe.cli.test_options import CHECKPOINT_OPTION
from flowpipe.cli.torch_needed import torch_or_why


@click.command()
@click.argument("run", type=RUN)
@click.option("-o", "--out", required=True, type=FILE, help="Checkpoint to write: .pth or .tar.")
@click.option("--names", "system", required=True, type=Choice(["tsn_pytorch", "mmaction2"]),
              help="System whose weight names are used.")  # fmt: skip
@CHECKPOINT_OPTION
def weights(run: Path, out: Path, system: str, checkpoint: str) -> None:
    """Write the weights of a RUN as a checkpoint that tsn-pytorch or mmaction2 loads.

    \b
    flowpipe weights runs/flow1 --names tsn_pytorch -o ucf101_bninception_flow_checkpoint.pth.tar
    flowpipe weights runs/rgb1 --names mmaction2 -o tsn_r50_rgb.pth

    tsn-pytorch supports bninception and the ResNets, mmaction2 the ResNets. Both average snippets.
    The printed line gives the input normalisation that the network expects. `flowpipe adopt` reads
    such checkpoints.
    """
    check_output(out, ".pth", ".tar")
    torch_or_why()
    from flowpipe.tsn.weight_export import export_weights

    say(export_weights(run, checkpoint, system, out))
