"""`flowpipe plan`: the same options as extract -> what would be done; writes nothing."""

from __future__ import annotations

from typing import Any

import click

from flowpipe.cli import EXIT_DONE, EXIT_WRONG_USE
from flowpipe.cli.missing import Missing
from flowpipe.cli.options import extract_options, request
from flowpipe.cli.screen import print_table, say, write_json, write_line
from flowpipe.modality import MODALITIES
from flowpipe.run import plan_run
from flowpipe.store import free_bytes

FILES_BESIDE_SHARDS = 4
"""store.json, the index, the ledger of the run and the contact sheet."""


@click.command()
@extract_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(as_json: bool, **options: Any) -> int:
    """Say what `extract` with the same options would do: frames, hours, bytes, inodes, free disk.

    Frames are estimated from a sample of probed headers and the sizes of the files; hours from the
    flow of one made-up pair timed on this machine. Nothing is written.
    """
    wanted = request(**options)
    found = plan_run(wanted.dataset, wanted.recipe, wanted.run)
    missing = Missing.of(wanted.dataset, found)
    free = free_bytes(wanted.run.store)
    workers = wanted.run.workers
    longest_s = max((shard.cost_s for shard in found.shards), default=0.0)
    hours = max(found.cost_s / workers, longest_s) / 3600
    facts = {
        "dataset": wanted.source["dataset"],
        "root": wanted.source["root"],
        "modalities": list(wanted.recipe.modalities),
        "spans_to_extract": found.spans,
        "spans_done": found.done,
        "spans_quarantined": found.quarantined,
        "changed_records": dict(found.changes.kinds),
        "videos_replaced": len(found.changes.replaced),
        "sources_gone": len(found.changes.gone),
        "videos_not_listed": found.changes.left_alone,
        "videos_absent": len(missing.absent),
        "videos_unlisted": len(missing.unlisted),
        "videos_unreadable": len(missing.unreadable),
        "frames": round(found.frames),
        "core_hours": found.cost_s / 3600,
        "device": wanted.run.device,
        "gpus": wanted.run.gpus,
        "workers": workers,
        "hours": hours,
        "bytes": round(found.bytes),
        "inodes": len(found.shards) + FILES_BESIDE_SHARDS,
        "inodes_as_jpeg_folders": round(found.frames * _files_per_frame(wanted.recipe.modalities)),
        "free_bytes": free,
        "fits": found.bytes <= free,
    }
    if as_json:
        write_json(facts)
    else:
        _print(facts, wanted.why_device or wanted.run.device, wanted.warning)
        for line in [*found.changes.lines(), *missing.lines()]:
            write_line(line)
    return EXIT_DONE if facts["fits"] else EXIT_WRONG_USE


def _print(facts: dict[str, Any], device: str, warning: str) -> None:
    fits = "enough" if facts["fits"] else "NOT enough"
    print_table(
        [
            ("data set", f"{facts['dataset']} in {facts['root']}"),
            ("modalities", ", ".join(facts["modalities"])),
            ("to extract", f"{facts['spans_to_extract']} videos or parts of long videos"),
            ("done before", str(facts["spans_done"])),
            ("in quarantine", str(facts["spans_quarantined"])),
            ("absent", f"{facts['videos_absent']} named by the data set and not there"),
            ("unlisted", f"{facts['videos_unlisted']} there and not named by the data set"),
            ("unreadable", f"{facts['videos_unreadable']} (empty or no regular file)"),
            ("device", device),
            ("frames", f"about {facts['frames']:,}"),
            (
                "time",
                f"about {facts['hours']:.2f} h with {facts['workers']} workers "
                f"({facts['core_hours']:.2f} core hours)",
            ),
            ("bytes", f"about {facts['bytes'] / 1e9:.2f} GB"),
            (
                "inodes",
                f"about {facts['inodes']} (as JPEG folders: {facts['inodes_as_jpeg_folders']:,})",
            ),
            ("free disk", f"{facts['free_bytes'] / 1e9:.2f} GB, {fits}"),
        ]
    )
    if warning:
        say(f"warning: {warning}", "yellow")


def _files_per_frame(modalities: tuple[str, ...]) -> int:
    # Frame folders keep x and y of a flow field in two files.
    return sum(2 if MODALITIES[name].channels == 2 else 1 for name in modalities)
