"""`flowpipe plan`: the options of extract -> estimates of its time and space; writes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from flowpipe.cli import EXIT_DONE, EXIT_WRONG_USE
from flowpipe.cli.options import extract_options
from flowpipe.cli.screen import count_progress, print_table, write_json, write_line
from flowpipe.job import extract_job, why_device
from flowpipe.job import plan as plan_of
from flowpipe.modality import MODALITIES
from flowpipe.run import MissingVideos, cores_only_s, usable_cores
from flowpipe.store import free_bytes, write_rate
from flowpipe.words import byte_size, count_noun, duration

STAGES = {
    "decode": "decoding", "compute": "computing", "camera": "camera motion", "encode": "encoding",
}  # fmt: skip
BOUNDS = {"gpus": "the GPUs", "longest_shard": "its longest shard", "disk": "the disk"}
FILES_BESIDE_SHARDS = 4
"""Number of files beside the shards: store.json, index, ledger and contact sheet."""


@click.command()
@extract_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(as_json: bool, **options: Any) -> int:
    """Estimate frames, hours, bytes, inodes and free disk of `extract` with the same options.

    \b
    flowpipe plan --dataset thumos14 --root /data/thumos14 --out /scratch/th14 --gpus 8

    Frames are estimated from file sizes and a sample of probed headers. Hours are estimated from
    the flow of one synthetic pair timed on this machine, and from the write rate of the disk, which
    is measured with a temporary file.
    """
    job = extract_job(**options, counting=count_progress)
    found = plan_of(job)
    missing = MissingVideos.from_plan(found)
    free = free_bytes(job.options.store)
    disk = write_rate(job.options.store) if found.shards else None
    found = replace(found, disk_bytes_per_s=disk or 0.0)
    duration_s = found.duration_s()
    alone_s = cores_only_s(found, job.recipe)
    facts = {
        "dataset": job.source["dataset"],
        "root": job.source["root"],
        "modalities": list(job.recipe.modalities),
        "videos_to_extract": found.videos,
        "spans_to_extract": found.spans,
        "videos_done": found.done,
        "videos_quarantined": found.quarantined,
        "changed_records": dict(found.changes.kinds),
        "videos_replaced": len(found.changes.replaced),
        "sources_gone": len(found.changes.gone),
        "videos_not_listed": found.changes.left_alone,
        "videos_absent": len(missing.absent),
        "videos_unlisted": len(missing.unlisted),
        "videos_unreadable": len(missing.unreadable),
        "frames": round(found.frames),
        "core_hours": (found.cost_s - found.gpu_s) / 3600,
        "gpu_hours": found.gpu_s / 3600,
        "core_hours_by_stage": {stage: s / 3600 for stage, s in found.stages_s.items()},
        "device": found.resources.device,
        "gpus": found.resources.gpus,
        "workers": found.resources.workers,
        "hours": max(duration_s.values()) / 3600,
        "bound_by": max(duration_s, key=lambda part: duration_s[part]),
        "saved_by_one_more_core": found.time_saved_share(more_cores=1),
        "saved_by_one_more_gpu": found.time_saved_share(more_gpus=1) if found.gpu_s else 0.0,
        "written_bytes_per_s": round(found.bytes / max(1.0, *duration_s.values())),
        "disk_bytes_per_s": disk and round(disk),
        "hours_without_gpus": alone_s / usable_cores() / 3600,
        "bytes": round(found.bytes),
        "inodes": len(found.shards) + FILES_BESIDE_SHARDS,
        "inodes_as_jpeg_folders": round(found.frames * _files_per_frame(job.recipe.modalities)),
        "free_bytes": free,
        "fits": found.bytes <= free,
    }
    if as_json:
        write_json(facts)
    else:
        _print(facts, why_device(found) or found.resources.device)
        others = replace(missing, left_out=()).lines()  # what is left out is in the note
        for line in [*filter(None, [job.dataset.note]), *found.changes.lines(), *others]:
            write_line(line)
    return EXIT_DONE if facts["fits"] else EXIT_WRONG_USE


def _print(facts: dict[str, Any], device: str) -> None:
    gpu = f", {duration(3600 * facts['gpu_hours'])} of one GPU" if facts["gpu_hours"] else ""
    without = ""
    if facts["hours_without_gpus"]:
        without = f"about {duration(3600 * facts['hours_without_gpus'])} on the cores alone"
    fits = "enough" if facts["fits"] else "NOT enough"
    videos, spans = facts["videos_to_extract"], facts["spans_to_extract"]
    to_extract = count_noun(videos, "video") + (
        f", cut into {spans} parts" if spans > videos else ""
    )
    rows = [
        ("data set", f"{facts['dataset']} in {facts['root']}"),
        ("modalities", ", ".join(facts["modalities"])),
        ("to extract", to_extract),
        ("done before", count_noun(facts["videos_done"], "video")),
        ("in quarantine", count_noun(facts["videos_quarantined"], "video")),
        ("absent", f"{count_noun(facts['videos_absent'], 'listed video')} without a file"),
        ("unlisted", f"{count_noun(facts['videos_unlisted'], 'file')} not listed"),
        (
            "unreadable",
            f"{count_noun(facts['videos_unreadable'], 'video')} (empty or no regular file)",
        ),
        ("device", device),
        ("frames", f"about {facts['frames']:,}" if facts["frames"] else "none"),
        (
            "time",
            f"about {duration(3600 * facts['hours'])} with "
            f"{count_noun(facts['workers'], 'worker')}, bound by {_describe_bottleneck(facts)}; "
            f"{duration(3600 * facts['core_hours'])} of one core{gpu}"
            if videos
            else "none",
        ),
        ("", without),
        ("more", _more(facts) if videos else ""),
        (
            "bytes",
            f"about {byte_size(facts['bytes'])}, {byte_size(facts['written_bytes_per_s'])}/s; "
            f"{_disk(facts['disk_bytes_per_s'])}"
            if videos
            else "none",
        ),
        (
            "inodes",
            f"about {facts['inodes']} (as JPEG folders: {facts['inodes_as_jpeg_folders']:,})",
        ),
        ("free disk", f"{byte_size(facts['free_bytes'])}, {fits}"),
    ]
    print_table(row for row in rows if row[1])


def _describe_bottleneck(facts: dict[str, Any]) -> str:
    """Describe the bottleneck of the run; if it is the cores, name the most expensive stage."""
    bound, stages = facts["bound_by"], facts["core_hours_by_stage"]
    if bound in BOUNDS:
        return BOUNDS[bound]
    most = max(stages, key=lambda stage: stages[stage])
    if bound == "stage":
        return f"{STAGES[most]}, for which each worker has one thread"
    share = stages[most] / sum(stages.values())
    return f"the cores, {share:.0%} of whose time is for {STAGES[most]}"


def _disk(bytes_per_s: float | None) -> str:
    """Describe the write rate of the disk, or say that it was not measured."""
    if bytes_per_s is None:
        return "the disk was not measured: its folder cannot be written to, or it is nearly full"
    return f"one writer gets {byte_size(bytes_per_s)}/s onto the disk"


def _more(facts: dict[str, Any]) -> str:
    """Describe how much time one more core or GPU would save."""
    parts = [f"one more core {_describe_saving(facts['saved_by_one_more_core'])}"]
    if facts["gpu_hours"]:
        parts.append(f"one more GPU {_describe_saving(facts['saved_by_one_more_gpu'])}")
    return ", ".join(parts)


def _describe_saving(share: float) -> str:
    return f"saves {share:.0%} of the time" if share >= 0.005 else "saves nothing"


def _files_per_frame(modalities: tuple[str, ...]) -> int:
    rows = (MODALITIES[name] for name in modalities)
    return sum(len(row.files) for row in rows if not row.from_sound)
