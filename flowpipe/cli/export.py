"""`flowpipe export`: a store or a file of features -> the files of other tools."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from flowpipe.cli.choices import Choice
from flowpipe.cli.folders import RUN_FOLDER, STORE_FOLDER, STORE_OR_FILE
from flowpipe.cli.paths import FOLDER
from flowpipe.cli.screen import count_progress, say, write_line
from flowpipe.errors import UsageError
from flowpipe.exchange import LAYOUTS, WEBDATASET, ExportJob, export_store
from flowpipe.features.layouts import (
    FEATURE_LAYOUTS,
    VALUES,
    FeatureExportJob,
    Values,
    export_features,
)
from flowpipe.words import byte_size, count_noun, list_some

_SHOWN = 4
_OF_STORES = ("images", "quality", "exact", "tar_mb", "workers")
"""Options that files of features do not have."""


@click.command()
@click.argument("store", metavar="STORE|FEATURES.h5", type=STORE_OR_FILE)
@click.argument("out", type=FOLDER)
@click.option("--layout", type=Choice([*LAYOUTS, WEBDATASET, *FEATURE_LAYOUTS]), required=True,
              help="File names and numbering; see below.")  # fmt: skip
@click.option(
    "--modalities",
    metavar="LIST",
    default="",
    help="Modalities of a store, or streams of "
    "features in the order of their columns, such as rgb,flow.  [default: all]",
)
@click.option("--only", metavar="LIST", default="",
              help="Subsets or splits, such as train1,test1.  [default: all]")  # fmt: skip
@click.option("--images", type=Choice(["jpg", "png"]), default="jpg", show_default=True,
              help="File format of flow, and of RGB that is not stored as JPEG; png is "
                   "lossless.")  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True,
              help="JPEG quality of jpg files.")  # fmt: skip
@click.option("--exact/--no-exact", default=True, show_default=True,
              help="Also write the stored bytes of flow beside jpg files, so that `flowpipe "
                   "import` restores them; about 15 % more disk.")  # fmt: skip
@click.option("--tar-mb", type=click.IntRange(1), default=1000, show_default=True,
              help="Size of each webdataset tar.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
              help="Worker processes.")  # fmt: skip
@click.option("--values", type=Choice(VALUES),
              help="Values of a row of features: features, scores before softmax, or "
                   "probabilities.  [default: scores for bmn, else features]")  # fmt: skip
@click.pass_context
def export(
    context: click.Context,
    store: Path,
    out: Path,
    layout: str,
    modalities: str,
    only: str,
    images: str,
    quality: int,
    exact: bool,
    tar_mb: int,
    workers: int,
    values: Values | None,
) -> None:
    """Export a STORE, or a file of `flowpipe features`, to the folder OUT for another tool.

    \b
    flowpipe export store frames --layout mmaction2
    flowpipe export store tars --layout webdataset --only train1
    flowpipe export features.h5 thumos --layout actionformer --modalities rgb,flow

    Layouts of a store:

    \b
    dense_flow   img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg ...; img_k is the second
                 frame of flow_k, and the first frame of a video is left out, as in TSN
    denseflow    the same from 00000; img_k is the first frame of flow_k
    mmaction2    the same from 00001, in folders by class
    webdataset   tars with one sample per video, its images byte for byte as stored

    List files of the splits are written too. RGB that is stored as JPEG is copied byte for byte.
    OUT/.flowpipe holds what the files cannot, so that `flowpipe import OUT STORE` needs no options.
    The same command resumes an interrupted export.

    Layouts of features:

    \b
    actionformer    a .npy per video, annotations and settings of ActionFormer and OpenTAD
    bmn             100 rows per video: csv for BSN and BMN, HDF5 for G-TAD on ActivityNet
    gtad            HDF5 with a row per frame, for G-TAD on THUMOS14; use --stride 5
    video_features  VIDEO_rgb.npy, VIDEO_flow.npy, VIDEO_fps.npy, VIDEO_timestamps_ms.npy
    """
    _check_options(context, store, layout)
    for kind in (STORE_FOLDER, RUN_FOLDER):
        if (out / kind.file).is_file():
            raise UsageError(f"{out} is a {kind.name}; choose another folder for the files")
    if layout in FEATURE_LAYOUTS:
        features_job = FeatureExportJob(
            path=store.absolute(),
            out=out.absolute(),
            layout=layout,
            streams=_names(modalities),
            only=_names(only),
            values=values,
        )
        written = export_features(features_job)
        videos = count_noun(written.videos, "video")
        write_line(f"{out}: {videos}")
        for name, count in written.zeros.items():
            say(f"{store} has no {name} of {count} of {videos}; zeros stand for it")
        _write_lists(written.lists)
        return
    job = ExportJob(
        store.absolute(),
        out.absolute(),
        layout,
        modalities=_names(modalities),
        only=_names(only),
        extension=f".{images}",
        quality=quality,
        exact=exact,
        tar_bytes=tar_mb * 1_000_000,
        workers=workers,
    )
    with count_progress("exporting videos") as progress:
        done = export_store(job, progress)
    already = f", {done.already} were there" if done.already else ""
    write_line(
        f"{out}: {count_noun(done.videos, 'video')}{already}, {count_noun(done.files, 'file')}, "
        f"{byte_size(done.bytes)}"
    )
    if done.mean_difference is not None:
        say(
            f"recompressed images differ from the store by {done.mean_difference:.2f} levels on "
            "average, measured on every 16th image; --images png is lossless"
        )
    _write_lists(done.lists)


def _write_lists(lists: list[Path]) -> None:
    if lists:
        write_line(f"lists: {list_some([path.name for path in lists], _SHOWN)}")


def _check_options(context: click.Context, store: Path, layout: str) -> None:
    """Raise UsageError if the layout is for the other kind of content, or an option is."""
    of_features = layout in FEATURE_LAYOUTS
    if store.is_dir() == of_features:
        layouts = [*LAYOUTS, WEBDATASET] if store.is_dir() else [*FEATURE_LAYOUTS]
        wanted = "a file of flowpipe features" if of_features else "a store"
        raise UsageError(
            f"layout {layout} is for {wanted}, and {store} is a "
            f"{'folder' if store.is_dir() else 'file'}; its layouts are {', '.join(layouts)}"
        )
    others = _OF_STORES if of_features else ("values",)
    given = [
        name for name in others
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]  # fmt: skip
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{names} has no effect on layout {layout}; leave it out")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
