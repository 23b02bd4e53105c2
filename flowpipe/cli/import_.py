"""`flowpipe import`: frame folders or tars -> a store."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli import EXIT_DONE, EXIT_SOME_FAILED
from flowpipe.cli.choices import Choice
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import FILE, FOLDER, FOLDER_THERE, SPLIT_FILE
from flowpipe.cli.screen import count_progress, say, write_line
from flowpipe.datasets.classes import read_class_names
from flowpipe.exchange import LAYOUTS, ImportJob, Pairing, import_folder, read_lists
from flowpipe.words import count_noun, list_some

_SHOWN = 5


@click.command("import")
@click.argument("folder", type=FOLDER_THERE)
@click.argument("store", type=FOLDER)
@click.option("--layout", type=Choice(list(LAYOUTS)), help="Tool that made the folders.")
@click.option("--pairing", type=Choice(["start", "end"]),
              help="Frame with the same number as a flow field: its first or its second.",
              )  # fmt: skip
@click.option("--bound", type=Number(0, 1000, min_open=True),
              help="Flow bound: displacement of byte values 0 and 255, pixels.")  # fmt: skip
@click.option("--fps", type=Number(0, min_open=True), help="Frames per second of the videos.")
@click.option("--list", "lists", type=SPLIT_FILE, multiple=True, metavar="[SPLIT=]FILE",
              help="List with lines 'folder frames label', such as train1=list.txt; repeatable.",
              )  # fmt: skip
@click.option("--class-names", type=FILE, metavar="FILE",
              help="Class names in the order of the labels, one per line.")  # fmt: skip
@click.option("--dataset", default="", metavar="NAME",
              help="Name of the data set; it selects the evaluation protocol.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
              help="Worker processes.")  # fmt: skip
def import_(
    folder: Path,
    store: Path,
    layout: str | None,
    pairing: Pairing | None,
    bound: float | None,
    fps: float | None,
    lists: tuple[tuple[str, Path], ...],
    class_names: Path | None,
    dataset: str,
    workers: int,
) -> int:
    """Make a STORE from the frame folders or tars in FOLDER.

    \b
    flowpipe import frames store
    flowpipe import frames store --layout denseflow --bound 20 --fps 25 --list train1=list.txt

    FOLDER needs no options if `flowpipe export` wrote it. For folders of another tool, with
    img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg or x_00001.jpg in them, give --layout or
    --pairing, --bound and --fps: the files do not record them.

    RGB in JPEG is copied byte for byte; other images are stored losslessly as JPEG-LS. Folders that
    cannot be imported are listed and left out. Exit code: 0 all done, 1 some left out, 2 wrong use.
    """
    labels, splits = read_lists(lists)
    names = read_class_names(class_names) if class_names else ()
    job = ImportJob(
        folder.absolute(),
        store.absolute(),
        layout=layout or "",
        pairing=pairing,
        bound=bound or 0.0,
        fps=fps or 0.0,
        dataset=dataset,
        class_names=names,
        labels=labels,
        splits=splits,
        workers=workers,
    )
    with count_progress("importing") as progress:
        done = import_folder(job, progress)
    for what, paths in (
        ("not named by any list, so without a label", done.unlisted),
        ("named by the lists and absent", done.absent),
    ):
        if paths:
            say(f"{count_noun(len(paths), 'folder')} {what}: {list_some(paths, _SHOWN)}")
    for path, message in done.failed:
        say(f"left out: {message if path in message else f'{path}: {message}'}")
    already = f", {done.already} were there" if done.already else ""
    failed = f", {len(done.failed)} left out" if done.failed else ""
    write_line(f"{store}: {count_noun(done.videos, 'video')}{already}{failed}")
    return EXIT_SOME_FAILED if done.failed else EXIT_DONE
