"""`flowpipe export`: a store -> frame folders of other tools, or webdataset tars."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli.paths import FOLDER
from flowpipe.cli.screen import counting, say, write_line
from flowpipe.cli.store_options import STORE_ARGUMENT
from flowpipe.exchange import LAYOUTS, WEBDATASET, ExportJob, export_store
from flowpipe.words import byte_size, count_noun, list_some

_SHOWN = 3


@click.command()
@STORE_ARGUMENT
@click.argument("out", type=FOLDER)
@click.option("--layout", type=click.Choice([*LAYOUTS, WEBDATASET]), required=True,
              help="Names and numbers of the files; see below.")  # fmt: skip
@click.option("--modalities", metavar="LIST", default="", help="As rgb,flow.  [default: all]")
@click.option("--only", metavar="LIST", default="",
              help="Subsets or splits to take, as train1,test1.  [default: all]")  # fmt: skip
@click.option("--images", type=click.Choice(["jpg", "png"]), default="jpg", show_default=True,
              help="Files of flow, and of colour that is not stored as JPEG; png keeps every "
                   "value.")  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True,
              help="Of those that are jpg.")  # fmt: skip
@click.option("--exact/--no-exact", default=True, show_default=True,
              help="Keep the stored bytes of flow beside jpg files, so that it can be imported "
                   "unchanged; some 15 % more disk.")  # fmt: skip
@click.option("--tar-mb", type=click.IntRange(1), default=1000, show_default=True,
              help="Size at which webdataset begins another tar.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
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
    """Write the videos of a STORE to OUT as other tools read them, with their list files.

    \b
    dense_flow   img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg ...; img_k is the second
                 frame of flow_k, and the first frame of a video is left out: as TSN
    denseflow    the same from 00000; img_k is the first frame of flow_k
    mmaction2    the same from 00001, in folders by class
    webdataset   tars with a sample a video, its images byte for byte as they are stored

    Colour that is stored as JPEG is copied byte for byte. OUT/.flowpipe keeps what such files
    cannot hold; with it, `flowpipe import OUT STORE` needs no options. Run again, the same command
    goes on where it ended.
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
            f"what was compressed again differs from the store by {done.mean_difference:.2f} levels"
            " in the mean, measured on every 16th image; files of --images png hold every value"
        )
    if done.lists:
        write_line(f"lists: {list_some([path.name for path in done.lists], _SHOWN)}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
