"""`flowpipe train`: a store + a recipe -> a trained network."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli.options import STORE_ARGUMENT, stored_dataset
from flowpipe.cli.screen import say
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.errors import UsageError
from flowpipe.modality import MODALITIES
from flowpipe.recipe_file import read_recipe, recipe_of
from flowpipe.tsn.pixels import PIXELS
from flowpipe.tsn.sampling import RULES


@click.command()
@STORE_ARGUMENT
@click.option("-o", "--out", "run", required=True, type=click.Path(path_type=Path),
              help="Folder of the run; one that was interrupted goes on.")  # fmt: skip
@click.option("--modality", required=True, type=click.Choice(list(MODALITIES)))
@click.option("--split", type=click.IntRange(1), default=1, show_default=True,
              help="Trains on train<k>, validates on test<k>.")  # fmt: skip
@click.option("--recipe", "recipe_file", metavar="NAME|FILE",
              help="Recipe whose train section is followed.  [default: the data set's own]",
              )  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Change one value, as --set streams.rgb.dropout=0.5.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True)  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True,
              help="Processes that read ahead.")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE",
              help="ImageNet weights of the backbone, where they cannot be fetched.")  # fmt: skip
@click.option("--amp", type=click.Choice(["off", "bf16", "fp16"]), default="off",
              show_default=True, help="Half precision.")  # fmt: skip
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True,
              help="Parts that a batch is computed in, to save memory.")  # fmt: skip
@click.option("--sampling", "rule", type=click.Choice(list(RULES)),
              default="tsn_pytorch", show_default=True, help="Whose rule picks snippets.",
              )  # fmt: skip
@click.option("--pixels", type=click.Choice(list(PIXELS)),
              help="Values that the weights are used to.  [default: the backbone's]")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--validate-every", type=click.IntRange(1), default=5, show_default=True,
              metavar="EPOCHS")  # fmt: skip
def train(
    store: Path,
    run: Path,
    modality: str,
    split: int,
    recipe_file: str | None,
    settings: tuple[str, ...],
    device: str,
    workers: int,
    weights: Path | None,
    amp: str,
    accumulate: int,
    rule: str,
    pixels: str | None,
    seed: int,
    validate_every: int,
) -> None:
    """Train one stream of a temporal segment network on a STORE.

    \b
    flowpipe train store --modality flow --split 1 -o runs/flow1
    torchrun --nproc-per-node 8 -m flowpipe train store --modality flow -o runs/flow1

    The run folder gets log.csv, last.pt after every epoch and best.pt of the best validation. The
    same command goes on where a run was interrupted, with the numbers it would have had.
    """
    torch_or_why()
    from flowpipe.tsn.device import chosen_device
    from flowpipe.tsn.train import TrainJob
    from flowpipe.tsn.train import train as run_training

    file = read_recipe(recipe_file) if recipe_file else recipe_of(stored_dataset(store))
    _, made = file.build([f"train.{setting}" for setting in settings])
    if made is None:
        raise UsageError(f"{file.path} has no train section; name another with --recipe")
    job = TrainJob(
        store.absolute(), run.absolute(), made, modality, split, chosen_device(device), workers,
        seed, rule, amp, accumulate, weights, validate_every, pixels or "",
    )  # fmt: skip
    run_training(job, say)
    say(f"next: flowpipe test {store} {run} -o scores.h5")
