"""`flowpipe show`: one video of a store -> a contact sheet."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli.info import find
from flowpipe.cli.paths import FILE
from flowpipe.cli.screen import write_line
from flowpipe.cli.store_options import STORE_ARGUMENT, check_output
from flowpipe.report import contact_sheet, save_png
from flowpipe.store import open_store


@click.command()
@STORE_ARGUMENT
@click.argument("video")
@click.option(
    "-o",
    "--output",
    required=True,
    type=FILE,
    help="PNG file to write.",
)
@click.option("--columns", type=click.IntRange(1, 24), default=6, show_default=True,
              help="Number of evenly spaced times to show.")  # fmt: skip
def show(store: Path, video: str, output: Path, columns: int) -> None:
    """Draw a contact sheet of VIDEO: frames, flow and warped flow in colour, RGB difference.

    \b
    flowpipe show demo-store bounce_00 -o sheet.png

    Put -- before an id that begins with a dash: flowpipe show STORE -o x.png -- -zHX3Gdx6I4
    """
    opened = open_store(store)
    find(opened, video)
    check_output(output, ".png")
    save_png(output, contact_sheet(opened, video, columns=columns))
    write_line(f"wrote {output}")
