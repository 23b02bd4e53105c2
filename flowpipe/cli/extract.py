"""`flowpipe extract`: videos -> a verified store."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import click

from flowpipe.cli import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from flowpipe.cli.extraction_progress import ExtractionDisplay
from flowpipe.cli.options import extract_options
from flowpipe.cli.screen import count_progress, say
from flowpipe.cli.store_options import stored_dataset
from flowpipe.cli.verify import check
from flowpipe.errors import REASONS
from flowpipe.job import extract as run_extraction
from flowpipe.job import extract_job, why_device
from flowpipe.job import plan as plan_of
from flowpipe.notes import count_notes
from flowpipe.recipes import recipe_of
from flowpipe.report import save_png, store_sheet
from flowpipe.run import (
    AbsentVideosError,
    ExtractJob,
    InterruptedRunError,
    MissingVideos,
    Plan,
    Summary,
    signals_interrupt_once,
    usable_cores,
)
from flowpipe.run.planning.missing import FILE_NAME
from flowpipe.splits import split_names
from flowpipe.store import Store, open_store
from flowpipe.words import agree_verb, byte_size, count_noun, duration, list_some

STOPPING = "stopping; finished videos are kept. Press Ctrl-C again to kill\n"


@click.command()
@extract_options
@click.option("--verify", is_flag=True, help="Verify the whole store at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Print only failures and the final result.")
def extract(verify: bool, quiet: bool, **options: Any) -> int:
    """Extract frames and flow of a data set or of your own videos into a store.

    \b
    flowpipe extract --dataset demo --out demo-store
    flowpipe extract --dataset thumos14 --root /data/thumos14 --out /scratch/th14 --gpus 8
    flowpipe extract --videos /data/clips --out store --modalities rgb,flow,warped_flow,rgb_diff

    The same command resumes an interrupted run. A broken video is quarantined with its reason and
    never stops the others. Absent videos stop the run before it starts, unless --allow-missing is
    given. Exit code: 0 all done, 1 some videos failed, 2 wrong use.
    """
    with signals_interrupt_once(STOPPING):  # in planning too, SIGTERM ends as Ctrl-C does
        return _extract(verify, quiet, **options)


def _extract(verify: bool, quiet: bool, **options: Any) -> int:
    job = extract_job(**options, counting=count_progress)
    plan = plan_of(job)
    if not quiet:
        if device := why_device(plan):
            say(f"device: {device}")
        _warn_if_started_elsewhere(plan)
        if job.dataset.note:
            say(job.dataset.note)
        say(
            f"{plan.videos} to extract{_describe_parts(plan)}, {plan.done} done before, "
            f"{plan.quarantined} in quarantine, {len(plan.unusable)} unusable; about "
            f"{count_noun(round(plan.frames), 'frame')}, {_cost(plan)}, "
            f"{byte_size(plan.bytes)}"
        )
        for line in plan.changes.lines():
            say(line)
    try:
        with ExtractionDisplay(quiet=quiet) as display:
            summary = run_extraction(plan, progress=display)
    except AbsentVideosError as error:
        _say_missing(error.missing, job)
        raise
    except InterruptedRunError as error:
        kept = error.summary.counts["done"] + error.summary.counts["partial"]
        say(
            f"interrupted; {count_noun(kept, 'video')} of this run kept; run the same command to "
            "go on"
        )
        return EXIT_INTERRUPTED
    if summary.missing is not None:
        _say_missing(summary.missing, job)
    damaged = verify and not _verify(job)
    _report(summary, job)
    return EXIT_SOME_FAILED if summary.failed or damaged else EXIT_DONE


def _say_missing(missing: MissingVideos, job: ExtractJob) -> None:
    """Print a sentence per kind of missing videos, and where all of them are listed."""
    sentences = missing.summary()
    for sentence in sentences:
        say(sentence)
    if sentences:
        say(f"all of them: {job.options.store / FILE_NAME}")


def _cost(plan: Plan) -> str:
    """Describe how long one core, and one GPU, would take."""
    cores = f"{duration(plan.cost_s - plan.gpu_s)} of one core"
    return f"{cores} and {duration(plan.gpu_s)} of one GPU" if plan.gpu_s else cores


def _describe_parts(plan: Plan) -> str:
    """Describe how many videos are split into parts, if any."""
    parts = plan.split
    return f" ({len(parts)} of them in {count_noun(sum(parts.values()), 'part')})" if parts else ""


def _warn_if_started_elsewhere(plan: Plan) -> None:
    """Print a notice if the store was started on another device."""
    if not (plan.done and plan.spans):
        return
    shards = open_store(plan.planned_job.options.store, skip_broken=True).catalogue.shards
    begun = sorted({str(facts.backend.get("ops")) for facts in shards})
    device = plan.resources.device
    others = [name for name in begun if name.partition("-")[0] != device]
    if others:
        say(
            f"the store was started on {', '.join(others)} and continues on {device}: "
            "pixels may differ by one level; each shard records its backend"
        )


def other_counts(store: Store, listed: Mapping[str, int]) -> str:
    """Describe videos whose frame count differs from their list; usually empty."""
    found, compared = [], 0
    for video_id, count in listed.items():
        if video_id not in store.videos:
            continue
        compared += 1
        decoded = sum(
            int(meta["facts"].get("frames_decoded", 0))
            for meta in store.videos[video_id].part_metas
        )
        if decoded != count:
            found.append(f"{video_id} {decoded} instead of {count}")
    if not found:
        return ""
    have = agree_verb(len(found), "has another frame count", "have other frame counts")
    return (
        f"{len(found)} of {count_noun(compared, 'video')} {have} than the list says, first: "
        f"{list_some(found)}"
    )


def _verify(job: ExtractJob) -> bool:
    """Verify the store, print the result and return whether it is intact."""
    report = check(job.options.store, decode=False, workers=usable_cores())
    images = sum(row.images for row in report.shards)
    found = "all intact" if report.ok else count_noun(len(report.problems), "problem")
    say(
        f"verified: {count_noun(len(report.shards), 'shard')}, {count_noun(images, 'image')}, "
        f"{found}"
    )
    for problem in report.problems:
        say(f"  {problem}")
    return report.ok


def _report(summary: Summary, job: ExtractJob) -> None:
    """Print what was done, where it is and which commands come next."""
    path, counts = job.options.store, summary.counts
    say(
        f"{counts['done']} done, {counts['partial']} partial, {counts['failed']} failed, "
        f"{counts['already done']} done before, {counts['quarantined']} in quarantine"
    )
    for reason, count in summary.reasons.most_common():
        say(f"  {count} x {reason}: {REASONS[reason]}")
    for note in count_notes(summary.noted):
        say(f"  note: {note}")
    if summary.failed:
        say(f"reasons: {path / 'quarantine'} and {summary.ledger}; try again with --retry all")
    if summary.frames:
        stages = ", ".join(
            f"{name} {1e3 * value / summary.frames:.2f}"
            for name, value in summary.seconds.items()
            if name != "wall"
        )
        say(
            f"{count_noun(summary.frames, 'frame')}, {byte_size(summary.stored_bytes)}; "
            f"CPU ms per frame: {stages}"
        )
        wall_s = max(1e-9, summary.seconds["wall"])
        shares = (f"{name} {round(100 * s / wall_s)}" for name, s in summary.busy_s.items())
        gpu = ", and the GPU was waited for" if "gpu" in summary.busy_s else ""
        say(f"% of the workers' time that each stage was at work{gpu}: {', '.join(shares)}")
    if job.warning:
        say(f"warning: {job.warning}", "yellow")
    store = open_store(path)
    if not store.videos:
        return
    other = other_counts(store, job.dataset.listed_frames)
    if other:
        say(other)
    sheet = path / "contact-sheet.png"
    save_png(sheet, store_sheet(store))
    for line in (
        f"store: {path} ({count_noun(len(store.videos), 'video')})",
        f"contact sheet: {sheet}",
        f"ledger: {summary.ledger}",
        "next:",
        *(f"  {command}" for command in next_commands(store, shlex.quote(str(path)))),
    ):
        say(line)


def next_commands(store: Store, path: str) -> list[str]:
    """Return commands for the next steps with a store at `path`, quoted for a shell."""
    first = next(iter(store.videos))
    dashes = "-- " if first.startswith("-") else ""  # else click takes the id for an option
    commands = [
        f"flowpipe verify {path}",
        f"flowpipe info {path}",
        f"flowpipe show {path} -o sheet.png {dashes}{shlex.quote(first)}",
    ]
    if "train1" in split_names(video for video in store.videos.values() if video.labels):
        # Recipes begin with the stream to train first: rgb tells nothing about the demo sets.
        _, trained = recipe_of(stored_dataset(store.path)).build([])
        streams = trained.streams if trained else ()
        commands += [
            f"flowpipe train {path} --modality {modality} -o runs/{modality}"
            for modality in streams
            if modality in store.modalities
        ][:1]
    return commands
