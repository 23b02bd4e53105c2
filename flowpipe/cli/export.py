"""`flowpipe export`: a store -> frame folders of other tools, or webdataset tars."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.paths import FOLDER
from flowpipe.cli.screen import counting, say, write_line
from flowpipe.cli.store_options import STORE_ARGUMENT
from flowpipe.exchange import LAYOUTS, WEBDATASET, ExportJob, export_store
from flowpipe.words import byte_size, count_noun, list_some

_SHOWN = 3


@click.command()
@STORE_ARGUMENT
@click.argument("out", type=FOLDER)
@click.option("--layout", type=Choice([*LAYOUTS, WEBDATASET]), required=True,
              help="File names and numbering; see below.")  # fmt: skip
@click.option(
    "--modalities", metavar="LIST", default="", help="Modalities, such as rgb,flow.  [default: all]"
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
def export(
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
) -> None:
    """Export the videos of a STORE to the folder OUT in the layout of another tool.

    \b
    flowpipe export store frames --layout mmaction2
    flowpipe export store tars --layout webdataset --only train1

    Layouts:

    \b
    dense_flow   img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg ...; img_k is the second
                 frame of flow_k, and the first frame of a video is left out, as in TSN
    denseflow    the same from 00000; img_k is the first frame of flow_k
    mmaction2    the same from 00001, in folders by class
    webdataset   tars with one sample per video, its images byte for byte as stored

    List files of the splits are written too. RGB that is stored as JPEG is copied byte for byte.
    OUT/.flowpipe holds what the files cannot, so that `flowpipe import OUT STORE` needs no options.
    The same command resumes an interrupted export.
    """
    job = ExportJob(
        store.absolute(), out.absolute(), layout, _names(modalities), _names(only), f".{images}",
        quality, exact, tar_mb * 1_000_000, workers,
    )  # fmt: skip
    with counting("exporting videos") as progress:
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
    if done.lists:
        write_line(f"lists: {list_some([path.name for path in done.lists], _SHOWN)}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
