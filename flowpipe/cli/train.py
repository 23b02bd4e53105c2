"""`flowpipe train`: a store and a recipe -> a trained network."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from flowpipe.cli import EXIT_DONE
from flowpipe.cli.choices import Choice
from flowpipe.cli.folders import STORE
from flowpipe.cli.networks import apply_options, list_given_options, stream_options, train_recipe
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import FILE_OR_FOLDER, FOLDER
from flowpipe.cli.processes import devices_option, launch_processes
from flowpipe.cli.screen import say
from flowpipe.cli.store_options import STORE_ARGUMENT
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.cli.training_progress import show_progress
from flowpipe.errors import UsageError


@click.command()
@STORE_ARGUMENT
@click.option("-o", "--out", "run", required=True, type=FOLDER,
              help="Run folder; an interrupted run is resumed.")  # fmt: skip
@stream_options
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True, help="Device that computes; auto uses a GPU if there is one.",
              )  # fmt: skip
@devices_option("Processes of this machine that train together, one GPU each.")
@click.option("--also", multiple=True, type=STORE,
              metavar="STORE", help="Also train on all labelled videos of another store of the "
              "same classes, as the papers did with UCF101 for THUMOS14; repeatable.")  # fmt: skip
@click.option("--resume", is_flag=True,
              help="Fail unless there is a run to resume.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True,
              help="Processes that load batches, per training process.")  # fmt: skip
@click.option("--weights", type=FILE_OR_FOLDER, metavar="RUN|FILE",
              help="Start from the backbone of another run, of a checkpoint of tsn-pytorch, "
              "mmaction2 or Caffe-TSN, or of a file of ImageNet weights, whatever their classes. "
              "The recipe's init says how a first layer of another modality is initialised. A "
              "resumed run uses its own weights.  "
              "[default: the run of the recipe's init_stream in the folder of this run; without "
              "init_stream, downloaded ImageNet weights, unless init is random]")  # fmt: skip
@click.option("--amp", type=Choice(["off", "bf16", "fp16"]), default="off",
              show_default=True, help="Automatic mixed precision.")  # fmt: skip
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True,
              help="Gradient accumulation steps, to save memory. Batch normalisation that is not "
              "frozen uses the statistics of a part of the batch.")  # fmt: skip
@click.option("--deterministic", is_flag=True,
              help="Use deterministic GPU kernels where torch has them; slower.",
              )  # fmt: skip
@click.option("--compile", "compiled", is_flag=True,
              help="Compile the network with torch.compile, which needs a C++ compiler; the first "
              "steps take minutes.")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Also write RUN/tensorboard for TensorBoard.")
@click.option("--seed", type=int, default=1, show_default=True, help="Random seed.")
@click.option("--log-every", type=click.IntRange(1), default=20, show_default=True,
              metavar="STEPS", help="Steps between lines of loss, accuracy and gradient norm.",
              )  # fmt: skip
@click.option("--validate-every", type=click.IntRange(1), default=5, show_default=True,
              metavar="EPOCHS", help="Epochs between validations; the last is always validated. "
              "Validation uses one crop of few snippets, so it understates `flowpipe test`.",
              )  # fmt: skip
@click.option("--save-every", type=Number(0), default=600.0, show_default=True,
              metavar="SECONDS", help="Time between saves of last.pt within an epoch.")  # fmt: skip
@click.option("--keep-every", type=click.IntRange(1), metavar="EPOCHS",
              help="Epochs between checkpoints that are kept, such as epoch-010.pt.")  # fmt: skip
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
    deterministic: bool,
    compiled: bool,
    tensorboard: bool,
    seed: int,
    log_every: int,
    validate_every: int,
    save_every: float,
    keep_every: int | None,
) -> int:
    """Train one stream of a temporal segment network on a STORE.

    \b
    flowpipe train store --modality flow --split 1 -o runs/flow1
    flowpipe train store --modality flow -o runs/flow1 --devices 8
    torchrun --nnodes 2 --nproc-per-node 8 ... -m flowpipe train store --modality flow -o runs/flow1

    The run folder gets log.csv (a row per epoch), steps.csv (a row per step), last.pt (after every
    epoch), best.pt (the best validation) and curve.png (at the end). The same command
    resumes an interrupted run: on a CPU with the same numbers, on a GPU up to rounding unless
    --deterministic is given.
    """
    torch_or_why()
    code = launch_processes(devices, device)
    if code is not None:
        return code
    from flowpipe.tsn.adopt import adopted_recipe
    from flowpipe.tsn.device import choose_device
    from flowpipe.tsn.run_folder import LAST
    from flowpipe.tsn.training.job import TrainJob
    from flowpipe.tsn.training.train import train as run_training

    if resume and not (run / LAST).exists():
        raise UsageError(f"--resume: {run} has no {LAST}; leave --resume out to start a run")
    options = {"sampling": sampling, "pixels": pixels}
    made = apply_options(train_recipe(store, recipe_file, settings), modality, **options)
    stream = adopted_recipe(
        made.streams[modality], run, list_given_options(modality, settings, **options)
    )
    made = replace(made, streams={**made.streams, modality: stream})
    job = TrainJob(
        store.absolute(),
        run.absolute(),
        made,
        modality,
        split,
        device=choose_device(device),
        workers=workers,
        seed=seed,
        amp=amp,
        accumulate=accumulate,
        weights=weights,
        validate_every=validate_every,
        save_s=save_every,
        keep_every=keep_every or 0,
        log_every=log_every,
        deterministic=deterministic,
        compile=compiled,
        tensorboard=tensorboard,
        also=tuple(path.absolute() for path in also),
    )
    with show_progress(f"{modality} {split}") as stepped:
        run_training(job, say, stepped)
    if os.environ.get("RANK", "0") == "0":
        say(f"next: flowpipe test {store} {run} -o scores.h5")
    return EXIT_DONE
