"""Options of extract and plan -> a data set, a recipe and run settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from flowpipe import params
from flowpipe.cli import devices
from flowpipe.cli.choices import Choice
from flowpipe.cli.dataset_options import load_dataset, source_of
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import FOLDER, PLACE, RECIPE, SPLIT_PLACE
from flowpipe.cli.sizes import width_and_height
from flowpipe.cli.store_options import chain
from flowpipe.datasets import DATASETS, Dataset
from flowpipe.errors import REASONS, BackendError, UsageError
from flowpipe.experimental import describe_experimental
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow import FLOWS
from flowpipe.modality import MODALITIES
from flowpipe.ops.cpu import native_core
from flowpipe.recipes import read_recipe, recipe_of
from flowpipe.remote import Cache, PathOrUrl, default_cache, is_url
from flowpipe.run import Plan, RunOptions
from flowpipe.store import read_store_header
from flowpipe.store.manifest import read_manifest
from flowpipe.video import DECODERS, MAX_DAMAGED
from flowpipe.words import unknown_name

ON_ERROR = ("skip", "partial", "conceal", "fail")
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
        help="Folder or URL, as s3://, of the data set's download; for a list file, the folder "
        "that its relative paths start at.  [default for lists: the folder of the list]",
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
        help="Share of your own videos of each class that is kept for validation, as split val1; "
        "the rest is train1.",
    ),
    click.option(
        "--list", "lists", type=SPLIT_PLACE, multiple=True, metavar="SPLIT=FILE",
        help="File that lists your own videos of a split, as train=train.txt; repeat for more.",
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
        "--recipe", "recipe_file", type=RECIPE, metavar="NAME|FILE",
        help="Recipe: a name from pipelines/ or a YAML file.  [default: the data set's own]",
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE",
        help="Change one value of the recipe, such as --set bound=15 or --set flow.warps=3.",
    ),
    click.option(
        "--modalities", metavar="LIST",
        help="Modalities to extract, such as rgb,flow,warped_flow,rgb_diff.",
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
        "--device", type=Choice(devices.CHOICES), default="auto", show_default=True,
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
        "--publish-every", "publish_s", type=Number(0), default=RunOptions.publish_s,
        show_default=True, metavar="SECONDS",
        help="Publish finished videos at least this often. A killed worker loses at most this much "
        "work and its current video. Smaller values make more shards.",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Request:
    """Data set, recipe and run settings that the options of `extract` and `plan` describe."""

    dataset: Dataset
    source: dict[str, Any]
    """Data set options as plain values, recorded in the store."""
    allow_missing: bool
    """True if the run continues when videos of the data set are absent."""
    recipe: ExtractRecipe
    run: RunOptions
    warning: str
    """Warning that is printed before and after the run; usually empty."""
    why_device: str
    """Device and the reason for its choice; empty if the user chose it."""


def request(
    *,
    dataset: str | None,
    root: PathOrUrl | None,
    videos: PathOrUrl | None,
    annotations: PathOrUrl | None,
    class_names: PathOrUrl | None,
    val_fraction: float | None,
    lists: tuple[tuple[str, PathOrUrl], ...],
    only: str | None,
    allow_missing: bool,
    out: Path,
    recipe_file: str | None,
    settings: tuple[str, ...],
    modalities: str | None,
    size: str | None,
    short_side: int | None,
    fps: float | None,
    decoder: str | None,
    stream: int | None,
    device: str,
    workers: int | None,
    gpus: int | None,
    scheduler: str,
    part: str,
    on_error: str,
    max_damaged: float,
    retry: str,
    stall_s: float,
    publish_s: float,
    split_s: float,
    cache: Path | None,
    cache_gb: float,
) -> Request:
    """Turn option values into a data set, a recipe and run options.

    Raises
    ------
    UsageError, RecipeError, DatasetError, BackendError
        If an option, the recipe, the data set or a device is wrong. Nothing is written before.
    """
    if retry and retry != "all" and retry not in REASONS:
        raise UsageError(unknown_name("--retry", retry, ("all", *REASONS)))
    if modalities is not None and not modalities.strip(" ,"):
        raise UsageError(f"--modalities is empty; name some of {', '.join(MODALITIES)}")
    if size and short_side:
        raise UsageError("--size and --short-side exclude each other")
    source = source_of(
        dataset,
        root,
        videos,
        annotations,
        class_names=class_names,
        only=only,
        out=out,
        lists=lists,
        val_fraction=val_fraction,
    )
    file = read_recipe(recipe_file) if recipe_file else recipe_of(source["dataset"])
    file.build()  # reports every mistake of the file, in the train section too
    values = dict(file.values.get("extract") or {})
    shorthand = _shorthand(modalities, size, short_side, fps, decoder=decoder, stream=stream)
    values = params.override(values, [*shorthand, *settings])
    chosen = devices.choose(device, gpus, workers, scheduler)
    warning = ""
    if chosen.device == "cpu":
        values, warning = without_core(values)
    recipe = params.build(ExtractRecipe, values, where="extract")
    _check_boxes(recipe, there=not scheduler)
    if not scheduler:  # workers of a scheduler check their own devices
        if lacks := recipe.lacks(chosen.device):
            raise BackendError("; ".join([warning] * bool(warning) + lacks))
        chosen = devices.for_decoder(chosen, recipe.video.decoder)
    run = RunOptions(
        store=out,
        workers=chosen.workers,
        gpus=chosen.gpus,
        any_device=chosen.any_device,
        scheduler=scheduler,
        device=chosen.device,
        part=_part(part),
        on_error=on_error,
        max_damaged=max_damaged,
        retry=retry,
        stall_s=stall_s,
        publish_s=publish_s,
        split_s=split_s,
        cache=Cache((cache or default_cache().folder).absolute(), round(cache_gb * 1e9)),
    )
    # Listing the videos can take long, so everything else is checked before.
    return Request(
        dataset=load_dataset(source),
        source=source,
        allow_missing=allow_missing,
        recipe=recipe,
        run=run,
        warning=warning,
        why_device=_why_device(chosen, recipe),
    )


def _check_boxes(recipe: ExtractRecipe, *, there: bool) -> None:
    """Raise UsageError if ``warp.boxes`` cannot be read, since every video would fail."""
    boxes = recipe.warp.boxes
    if not boxes or recipe.flows < 2:
        return
    if is_url(boxes):
        raise UsageError(f"warp.boxes {boxes} is a URL, and this must be a path on a local disk")
    if there and not Path(boxes).exists():
        raise UsageError(f"warp.boxes {boxes}: no such folder or .jsonl file")


def _shorthand(
    modalities: str | None,
    size: str | None,
    short_side: int | None,
    fps: float | None,
    *,
    decoder: str | None,
    stream: int | None,
) -> list[str]:
    settings = []
    if modalities:
        settings.append(f"modalities=[{modalities}]")
    if size:
        width, height = width_and_height(size)
        settings.append(f"size={{width: {width}, height: {height}}}")
    if short_side:
        settings.append(f"size={{width: 0, height: 0, short_side: {short_side}}}")
    if fps:
        settings.append(f"video.fps={fps}")
    if decoder:
        settings.append(f"video.decoder={decoder}")
    if stream is not None:
        settings.append(f"video.stream={stream}")
    return settings


def without_core(values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Replace ``tvl1`` by ``opencv_tvl1`` if the compiled core is missing; return a warning too."""
    core = native_core()
    chosen = values.get("flow", {"name": "tvl1"})
    name = chosen.get("name", "tvl1") if isinstance(chosen, dict) else chosen
    if core.available or name != "tvl1":
        return values, ""
    warning = (
        "flow is computed by OpenCV's TV-L1, about 50 times slower than flowpipe's own, and "
        f"the store records it: {core.reason}"
    )
    return {**values, "flow": {"name": "opencv_tvl1"}}, warning


def _why_device(chosen: devices.Devices, recipe: ExtractRecipe) -> str:
    """Return the device and why it was chosen; empty if the user chose it and flow runs there."""
    wanted = recipe.flows > 0
    if not (wanted and FLOWS[recipe.flow.name].own_gpu and chosen.device == "cpu"):
        return chosen.why
    return f"{chosen.why or 'cpu'}; but flow {recipe.flow.name} on the GPU, by OpenCV"


def why_device(plan: Plan, wanted: Request) -> str:
    """Return the device of a plan and why, in one line; empty if the user chose everything."""
    if plan.device != wanted.run.device:  # the plan found the other device faster
        return plan.device_reason
    return "; ".join(filter(None, [wanted.why_device, plan.device_reason]))


def _part(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--part wants i/n with 1 <= i <= n, such as 3/8, got {text}")
    return int(index), int(count)


def stored_request(store: Path) -> tuple[dict[str, Any], ExtractRecipe]:
    """Return the data set options and the recipe that a store was extracted with."""
    header = read_store_header(store)
    if "imported" in header.recipe:
        raise UsageError(
            f"{store} was imported, not extracted from videos; delete the damaged shards and run "
            "the same `flowpipe import` again, which restores them"
        )
    source = read_manifest(store, keys=False).dataset or header.dataset
    return source, params.build(ExtractRecipe, header.recipe, where="store.json")
