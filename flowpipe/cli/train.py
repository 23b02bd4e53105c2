"""`flowpipe train`: a store + a recipe -> a trained network."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from flowpipe.cli import EXIT_DONE
from flowpipe.cli.networks import given_options, stream_options, train_recipe, with_options
from flowpipe.cli.paths import FILE_OR_FOLDER, FOLDER, THERE
from flowpipe.cli.processes import devices_option, launched
from flowpipe.cli.screen import say
from flowpipe.cli.store_options import STORE_ARGUMENT
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.cli.watch import watching
from flowpipe.errors import UsageError


@click.command()
@STORE_ARGUMENT
@click.option("-o", "--out", "run", required=True, type=FOLDER,
              help="Folder of the run; one that was interrupted goes on.")  # fmt: skip
@stream_options
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True)  # fmt: skip
@devices_option("Processes of this machine that train together, each on a GPU of its own.")
@click.option("--also", multiple=True, type=THERE,
              metavar="STORE", help="Train on all labelled videos of another store of the same "
              "classes too, as the papers did with UCF101 for THUMOS14.")  # fmt: skip
@click.option("--resume", is_flag=True,
              help="Refuse to begin: only go on with the run that is there.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True,
              help="Processes that read ahead.")  # fmt: skip
@click.option("--weights", type=FILE_OR_FOLDER, metavar="RUN|FILE",
              help="Begin with the backbone of another run, of a checkpoint of tsn-pytorch, "
              "mmaction2 or Caffe-TSN, or of a file of ImageNet weights, whatever their classes. "
              "The recipe's init says what a first layer of another modality begins with.  "
              "[default: ImageNet weights, fetched, unless init is random]")  # fmt: skip
@click.option("--amp", type=click.Choice(["off", "bf16", "fp16"]), default="off",
              show_default=True, help="Half precision.")  # fmt: skip
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True,
              help="Parts that a batch is computed in, to save memory.")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write RUN/tensorboard too.")
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
    sampling: str | None,
    pixels: str | None,
    device: str,
    devices: int | None,
    also: tuple[Path, ...],
    resume: bool,
    workers: int,
    weights: Path | None,
    amp: str,
    accumulate: int,
    tensorboard: bool,
    seed: int,
    validate_every: int,
) -> int:
    """Train one stream of a temporal segment network on a STORE.

    \b
    flowpipe train store --modality flow --split 1 -o runs/flow1
    flowpipe train store --modality flow -o runs/flow1 --devices 8
    torchrun --nnodes 2 --nproc-per-node 8 ... -m flowpipe train store --modality flow -o runs/flow1

    The run folder gets log.csv, last.pt after every epoch, best.pt of the best validation and in
    the end curve.png. The same command goes on where a run was interrupted, with the numbers it
    would have had.
    """
    torch_or_why()
    code = launched(devices, device)
    if code is not None:
        return code
    from flowpipe.tsn.adopt import as_adopted
    from flowpipe.tsn.device import chosen_device
    from flowpipe.tsn.run_folder import LAST
    from flowpipe.tsn.train import TrainJob
    from flowpipe.tsn.train import train as run_training

    if resume and not (run / LAST).exists():
        raise UsageError(f"--resume: {run} has no {LAST}; leave --resume out to begin")
    options = {"sampling": sampling, "pixels": pixels}
    made = with_options(train_recipe(store, recipe_file, settings), modality, **options)
    stream = as_adopted(made.streams[modality], run, given_options(modality, settings, **options))
    made = replace(made, streams={**made.streams, modality: stream})
    job = TrainJob(
        store.absolute(), run.absolute(), made, modality, split, chosen_device(device), workers,
        seed, amp, accumulate, weights, validate_every,
        tensorboard=tensorboard, also=tuple(path.absolute() for path in also),
    )  # fmt: skip
    with watching(f"{modality} {split}") as stepped:
        run_training(job, say, stepped)
    if os.environ.get("RANK", "0") == "0":
        say(f"next: flowpipe test {store} {run} -o scores.h5")
    return EXIT_DONE
