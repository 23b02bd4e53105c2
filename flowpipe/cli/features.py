"""`flowpipe features`: a store and networks -> features and scores along its videos."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowpipe.cli import EXIT_DONE
from flowpipe.cli.choices import Choice
from flowpipe.cli.folders import RUN
from flowpipe.cli.paths import FILE, FILE_THERE
from flowpipe.cli.processes import devices_option, launch_processes
from flowpipe.cli.screen import count_progress, say
from flowpipe.cli.store_options import STORE_ARGUMENT, check_output
from flowpipe.cli.test_options import CHECKPOINT_OPTION
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.errors import UsageError
from flowpipe.features import Extent
from flowpipe.words import count_noun, duration

if TYPE_CHECKING:
    from flowpipe.tsn.features.networks import FeatureNetwork

_PREFIX = "torchvision:"
_WINDOW = 16
_LENGTH = re.compile(r"(?P<value>\d*\.?\d+)\s*(?P<unit>s?)")


class NetworkParam(click.ParamType):
    """Folder of a run, or ``torchvision:NAME``, as a path or text."""

    name = "run"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        if str(value).startswith(_PREFIX):
            return str(value)
        return RUN.convert(value, parameter, context)


class ExtentParam(click.ParamType):
    """``16`` frames or ``0.5s`` -> Extent."""

    name = "length"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Extent:
        if isinstance(value, Extent):
            return value
        found = _LENGTH.fullmatch(str(value).strip())
        if not found:
            self.fail(
                f"{value!r}: wanted frames, such as 16, or seconds, such as 0.5s",
                parameter,
                context,
            )
        try:
            return Extent(float(found["value"]), "seconds" if found["unit"] else "frames")
        except ValueError as error:
            self.fail(f"{value!r}: {error}; seconds end in s, such as 0.5s", parameter, context)


@click.command()
@STORE_ARGUMENT
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=NetworkParam())
@click.option("-o", "--out", required=True, type=FILE,
              help="File for the features, .h5.")  # fmt: skip
@click.option("--window", type=ExtentParam(), metavar="LENGTH",
              help="Length of the window of a row: frames, such as 16, or seconds, such as 0.5s.  "
                   "[default: 16, or the clip length of torchvision's network]")  # fmt: skip
@click.option("--stride", type=ExtentParam(), default="8", show_default=True, metavar="LENGTH",
              help="Distance between two rows: frames, or seconds.")  # fmt: skip
@click.option("--layer", default="global_pool", show_default=True, metavar="NAME",
              help="Layer whose output is the features, averaged over space and time. "
                   "global_pool: the input of the classifier.")  # fmt: skip
@click.option("--crops", type=Choice(["1", "5", "10"]), default="1", show_default=True,
              help="Crops of a row that are averaged: the centre; also the corners; also their "
                   "mirrors.")  # fmt: skip
@click.option("--split", default="all", show_default=True, metavar="NAME",
              help="Split whose videos to take, such as test1.")  # fmt: skip
@click.option("--video", "video_ids", multiple=True, metavar="ID",
              help="Video to take. Repeat the option for several.  [default: all of the split]",
              )  # fmt: skip
@click.option("--weights", multiple=True, type=FILE_THERE, metavar="FILE",
              help="File of weights of a network of torchvision. Repeat the option for several, in "
                   "the order of the networks.")  # fmt: skip
@CHECKPOINT_OPTION
@click.option("--batch-size", type=click.IntRange(1), metavar="N",
              help="Crops that go through the network together, of one or several videos.  "
                   "[default: 64 on a GPU, 10 on a CPU]")  # fmt: skip
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True, help="Device that computes; auto uses a GPU if there is one.",
              )  # fmt: skip
@devices_option("Processes of this machine that share the videos, one GPU each.")
@click.option("--amp", type=Choice(["off", "bf16", "fp16"]), default="off",
              show_default=True, help="Automatic mixed precision.")  # fmt: skip
def features(
    store: Path,
    runs: tuple[Path | str, ...],
    out: Path,
    window: Extent | None,
    stride: Extent,
    layer: str,
    crops: str,
    split: str,
    video_ids: tuple[str, ...],
    weights: tuple[Path, ...],
    checkpoint: str,
    batch_size: int | None,
    device: str,
    devices: int | None,
    amp: str,
) -> int:
    """Compute features and scores along the videos of a STORE with the network of each RUN.

    \b
    flowpipe features store runs/rgb runs/flow -o features.h5 --stride 4
    flowpipe features store torchvision:r3d_18 --weights r3d_18-b3b3357e.pth -o r3d.h5

    RUN is the folder of a run of flowpipe train, or torchvision:NAME for a video network of
    torchvision. A row is a window of a video. Rows of all networks are the same windows: row k
    begins k strides after the start of the video. A run computes the snippet in the middle of the
    window, one of sound the spectrogram nearest to it; a network of torchvision computes frames
    evenly spaced over it.

    The frames after the last complete window have no row. A video shorter than a window has one
    row. The same command resumes an interrupted run, with any number of devices: the rows of
    finished videos are kept in OUT.partial, those of process R in OUT.partial.R. `flowpipe export
    OUT.h5 FOLDER --layout actionformer` writes the files of other tools.
    """
    torch_or_why()
    check_output(out, ".h5")
    code = launch_processes(devices, device)
    if code is not None:
        return code
    from flowpipe.tsn.device import choose_device
    from flowpipe.tsn.distributed import select_device
    from flowpipe.tsn.features.extract import extract_features
    from flowpipe.tsn.features.job import FeatureJob

    on = select_device(choose_device(device))
    window = window or _default_window(runs)
    networks = _open_networks(runs, weights, checkpoint, on, amp=amp, layer=layer, window=window)
    job = FeatureJob(
        store=store.absolute(),
        out=out.absolute(),
        window=window,
        stride=stride,
        split=split,
        video_ids=video_ids,
        crops=int(crops),
        device=on,
        amp=amp,
        views=batch_size or 0,
    )
    with count_progress("computing rows") as progress:
        done = extract_features(job, networks, progress, say)
    here = done.process
    if here.is_first:
        videos, rows = count_noun(done.videos, "video"), count_noun(done.rows, "row")
        say(f"{out}: {videos}, {rows} of {', '.join(network.name for network in networks)}")
    if here.is_first and here.world > 1 and done.computed:
        say(f"{here.world} processes: {_describe_rate(done.computed, done.seconds)}")
    own = f"process {here.rank} of {here.world}, " if here.world > 1 else ""
    for speed in done.speeds:
        if speed.rows:
            rate, waited = _describe_rate(speed.rows, speed.seconds), speed.waited_s / speed.seconds
            say(f"{own}{speed.name}: {rate}, waited for data {waited:.0%}")
    return EXIT_DONE


def _open_networks(
    runs: tuple[Path | str, ...],
    weights: tuple[Path, ...],
    checkpoint: str,
    device: str,
    *,
    amp: str,
    layer: str,
    window: Extent,
) -> list[FeatureNetwork]:
    from flowpipe.tsn.features.networks import RunNetwork
    from flowpipe.tsn.features.torchvision_networks import (
        VideoNetwork,
        default_window,
        missing_weights_error,
    )

    published = [run.removeprefix(_PREFIX) for run in runs if isinstance(run, str)]
    if len(weights) < len(published):
        raise missing_weights_error(published[len(weights)])
    if len(weights) > len(published):
        raise UsageError(
            f"--weights is for networks of torchvision: {count_noun(len(published), 'network')} "
            f"and {count_noun(len(weights), 'file')} are given; a run has its own weights"
        )
    files = iter(weights)
    networks: list[FeatureNetwork] = []
    for run in runs:
        if isinstance(run, str):
            name = run.removeprefix(_PREFIX)
            frames = int(window.value) if window.unit == "frames" else default_window(name)
            networks.append(
                VideoNetwork(name, next(files), device, amp, layer=layer, window=frames)
            )
        else:
            networks.append(RunNetwork(run.absolute(), checkpoint, device, amp, layer))
    return networks


def _default_window(runs: tuple[Path | str, ...]) -> Extent:
    from flowpipe.tsn.features.torchvision_networks import default_window

    published = [run.removeprefix(_PREFIX) for run in runs if isinstance(run, str)]
    return Extent(max([_WINDOW, *map(default_window, published)]))


def _describe_rate(rows: int, seconds: float) -> str:
    return f"{count_noun(rows, 'row')} in {duration(seconds)}, {rows / seconds:.1f} rows/s"
