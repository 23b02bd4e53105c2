"""`flowpipe verify`: a store -> a table of its problems, and an exit code."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli import EXIT_DONE, EXIT_SOME_FAILED
from flowpipe.cli.choices import Choice
from flowpipe.cli.extraction_progress import ExtractionDisplay
from flowpipe.cli.options import MAX_DAMAGE_OPTION, read_stored_options
from flowpipe.cli.screen import count_progress, print_table, say, write_json, write_line
from flowpipe.cli.store_options import STORE_ARGUMENT
from flowpipe.datasets.source import load_dataset
from flowpipe.run import ExtractJob, Quarantine, RunOptions, policy_shown, repair
from flowpipe.run.options import ON_ERROR, WorkerOptions
from flowpipe.run.planning import devices
from flowpipe.store import Report, layout, verify_store
from flowpipe.words import count_noun


@click.command()
@STORE_ARGUMENT
@click.option("--repair", "mend", is_flag=True, help="Extract broken videos again, and only those.")
@click.option("--decode", is_flag=True, help="Also decode every image, beyond its checksum.")
@click.option(
    "--on-error", type=Choice(ON_ERROR),
    help="Handling of damaged videos by --repair, as in extract.  [default: as in the store's "
    "ledger]",
)  # fmt: skip
@MAX_DAMAGE_OPTION
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Value that --repair needs and the store does not record, such as "
                   "--set flow.weights=FILE.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
              help="Worker processes.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(
    store: Path,
    mend: bool,
    decode: bool,
    on_error: str | None,
    max_damaged: float,
    settings: tuple[str, ...],
    workers: int,
    as_json: bool,
) -> int:
    """Check every checksum, count, offset and alignment of a STORE.

    \b
    flowpipe verify demo-store
    flowpipe verify demo-store --repair

    With --repair, good videos of a damaged shard are kept byte for byte, and only the broken ones
    are extracted again from their source. Exit code: 0 if the store is intact, else 1.
    """
    report = check(store, decode, workers)
    _print(report, as_json)
    if report.ok or not mend:
        return EXIT_DONE if report.ok else EXIT_SOME_FAILED
    source, recipe = read_stored_options(store, settings)
    chosen = devices.for_decoder(devices.Devices("cpu", 0, workers, ""), recipe.video.decoder)
    options = RunOptions(
        store, workers=workers, gpus=chosen.gpus,
        worker=WorkerOptions(
            on_error=on_error or policy_shown(store), max_damaged=max_damaged
        ),
    )  # fmt: skip
    damaged = sorted({p.shard for p in report.problems if layout.SHARD_NAME.fullmatch(p.shard)})
    job = ExtractJob(load_dataset(source, count_progress), source, recipe, options)
    with ExtractionDisplay() as display:
        summary = repair(damaged, job, display)
    made = count_noun(summary.counts["done"], "video")
    say(f"repaired: {made} extracted again, {summary.failed} failed; checking")
    report = check(store, decode, workers)
    _print(report, as_json)
    return EXIT_DONE if report.ok and not summary.failed else EXIT_SOME_FAILED


def check(store: Path, decode: bool, workers: int) -> Report:
    """Return the problems of a store; videos in its quarantine are not counted."""
    given_up = Quarantine(store).video_ids()
    return verify_store(store, decode=decode, workers=workers, given_up=given_up)


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        write_json(report.plain())
        return
    print_table(
        (
            (
                row.shard, str(row.videos), str(row.frames), str(row.images),
                f"{row.bytes / 1e6:.1f}", "ok" if row.ok else count_noun(row.problems, 'problem'),
            )
            for row in report.shards
        ),
        header=("shard", "videos", "frames", "images", "MB", "state"),
    )  # fmt: skip
    for problem in report.problems:
        write_line(str(problem))
    for note in report.notes:
        write_line(f"note: {note}")
    write_line("the store is intact" if report.ok else count_noun(len(report.problems), "problem"))
