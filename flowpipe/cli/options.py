"""Options of extract and plan, as click declares them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flowpipe import params
from flowpipe.cli.choices import Choice
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import FOLDER, PLACE, RECIPE, SPLIT_PLACE
from flowpipe.cli.store_options import chain
from flowpipe.datasets import DATASETS
from flowpipe.errors import UsageError
from flowpipe.experimental import describe_experimental
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run.options import ON_ERROR, PUBLISH_S
from flowpipe.run.planning.devices import CHOICES
from flowpipe.store import read_store_header
from flowpipe.store.manifest import read_manifest
from flowpipe.video import DECODERS, MAX_DAMAGED

MAX_DAMAGE_OPTION = click.option(
    "--max-damage", "max_damaged", type=Number(0, 1), default=MAX_DAMAGED,
    show_default=True, metavar="SHARE",
    help="Largest share of damaged frames in a video that still counts as good. One or two damaged "
    "frames are always accepted, unless it is 0.",
)  # fmt: skip


extract_options = chain(
    click.option("--dataset", metavar="NAME", help=f"Data set: {', '.join(DATASETS)}."),
    click.option(
        "--root", type=PLACE,
        help="Folder or URL, such as s3://, of the data set's download; for a list file, the "
        "folder that its relative paths start at.  [default for lists: the folder of the list]",
    ),
    click.option(
        "--videos", type=PLACE,
        help="Your own videos: a folder, searched with all subfolders, a list file, or its URL.",
    ),
    click.option(
        "--annotations", type=PLACE,
        help="File or folder of the data set's official lists.  [default: found below --root]",
    ),
    click.option(
        "--class-names", type=PLACE, metavar="FILE",
        help="Class names of your own videos in the order of their labels, one per line.",
    ),
    click.option(
        "--val-fraction", type=Number(0, 1, min_open=True, max_open=True),
        metavar="SHARE",
        help="Share of your own videos of each class that becomes split val1, for validation; "
        "the rest is train1.",
    ),
    click.option(
        "--list", "lists", type=SPLIT_PLACE, multiple=True, metavar="SPLIT=FILE",
        help="File that lists your own videos of a split, such as train=train.txt; repeatable.",
    ),
    click.option(
        "--only", metavar="LIST",
        help="Subsets or splits to extract, such as validation or train1,test1.",
    ),
    click.option(
        "--allow-missing", is_flag=True,
        help="Continue if videos of the data set are absent; STORE/missing.txt lists them.",
    ),
    click.option(
        "--out", required=True, type=FOLDER, metavar="STORE",
        help="Store folder; an existing store of the same recipe is resumed.",
    ),
    click.option(
        "--recipe", type=RECIPE, metavar="NAME|FILE",
        help="Recipe: a name from pipelines/ or a YAML file.  [default: the data set's own]",
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE",
        help="Change one value of the recipe, such as --set bound=15 or --set flow.warps=3.",
    ),
    click.option(
        "--modalities", metavar="LIST",
        help="Modalities to extract, such as rgb,flow,warped_flow,rgb_diff,audio.",
    ),
    click.option("--size", metavar="WxH", help="Size of the stored images, such as 340x256."),
    click.option(
        "--short-side", type=click.IntRange(16), metavar="PIXELS",
        help="Resize the short side to this and keep the aspect ratio; small videos are enlarged.",
    ),
    click.option(
        "--fps", type=Number(0, min_open=True), help="Frame rate to resample to."
    ),
    click.option(
        "--decoder", type=Choice(list(DECODERS)),
        help="Video decoder: cpu, or nvdec on an NVIDIA GPU. A store uses one decoder only. "
        f"{describe_experimental('nvdec')}  [default: the recipe's, cpu]",
    ),
    click.option(
        "--stream", type=click.IntRange(0), metavar="INDEX",
        help="Video stream to decode, by ffprobe's index.  [default: no cover or thumbnail, then "
        "the file's default stream, then the one with most frames]",
    ),
    click.option(
        "--device", type=Choice(CHOICES), default="auto", show_default=True,
        help="Device that computes flow; auto measures the GPUs and the cores, takes the faster "
        f"and prints its choice. {describe_experimental('cuda')}",
    ),
    click.option(
        "--workers", type=click.IntRange(1), default=None,
        help="Worker processes, one core each.  [default: the number of usable cores; with GPUs, "
        "as many as fit into memory]",
    ),
    click.option(
        "--gpus", type=click.IntRange(1), metavar="N",
        help="Number of GPUs, shared evenly by the workers.  [default: all visible ones]",
    ),
    click.option(
        "--scheduler", metavar="ADDRESS|FILE", default="",
        help="Running Dask scheduler: its address, or the file of dask scheduler --scheduler-file.",
    ),
    click.option(
        "--part", metavar="i/n", default="1/1",
        help="Extract the i-th of n shares of the videos, for array jobs.",
    ),
    click.option(
        "--on-error", type=Choice(ON_ERROR), default="skip", show_default=True,
        help="Damaged videos: leave them out (skip), keep the frames before the damage (partial), "
        "keep those after it too (conceal), or stop the run (fail).",
    ),
    MAX_DAMAGE_OPTION,
    click.option(
        "--retry", metavar="REASON|all", default="",
        help="Extract quarantined videos again: all, or those with one reason code.",
    ),
    click.option(
        "--split", "split_s", type=Number(0), default=300.0, show_default=True,
        metavar="SECONDS",
        help="Split longer videos into parts, so that all workers share one video; 0 for never.",
    ),
    click.option(
        "--cache", "cache", type=FOLDER, metavar="DIR",
        help="Folder on each machine that caches videos from URLs while they are used.  "
        "[default: in the folder for temporary files]",
    ),
    click.option(
        "--cache-gb", type=Number(0, min_open=True), default=20.0, show_default=True,
        help="Largest size of the cache, GB.",
    ),
    click.option(
        "--stall", "stall_s", type=Number(1), default=300.0, show_default=True,
        metavar="SECONDS", help="Kill a worker that finishes no frame for this long.",
    ),
    click.option(
        "--publish-every", "publish_s", type=Number(0), default=PUBLISH_S,
        show_default=True, metavar="SECONDS",
        help="Publish finished videos at least this often. A killed worker loses at most this much "
        "work and its current video. Smaller values make more shards.",
    ),
)  # fmt: skip


def read_stored_options(
    store: Path, settings: Sequence[str] = ()
) -> tuple[dict[str, Any], ExtractRecipe]:
    """Return the data set options and the recipe that a store was extracted with, and settings."""
    header = read_store_header(store)
    if "imported" in header.recipe:
        raise UsageError(
            f"{store} was imported, not extracted from videos; delete the damaged shards and run "
            "the same `flowpipe import` again, which restores them"
        )
    source = read_manifest(store, keys=False).dataset or header.dataset
    values = params.override(header.recipe, settings)
    where = "extract" if settings else "store.json"
    return source, params.build(ExtractRecipe, values, where=where)
