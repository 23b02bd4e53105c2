"""`flowpipe predict`: a video file and trained runs -> its classes and a time line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.extraction_progress import ExtractionDisplay
from flowpipe.cli.folders import RUN
from flowpipe.cli.live import LiveOptions, live_options, predict_live
from flowpipe.cli.networks import WEIGHTS_OPTION, weights_of
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import PLACE, RECIPE
from flowpipe.cli.screen import count_progress, print_table, say, write_json, write_line
from flowpipe.cli.test_options import CHECKPOINT_OPTION, test_options, test_params
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.datasets import Dataset
from flowpipe.errors import FlowpipeError, UsageError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.job.recipe import without_core
from flowpipe.params import build, digest, override, plain
from flowpipe.recipes import read_recipe
from flowpipe.remote import PathOrUrl
from flowpipe.run import ExtractJob, Quarantine, RunOptions, plan_run
from flowpipe.run import run as extract
from flowpipe.run.options import WorkerOptions
from flowpipe.run.planning import devices
from flowpipe.scratch import scratch_folder
from flowpipe.store import open_store
from flowpipe.types import VideoRecord
from flowpipe.video.live import is_stream
from flowpipe.words import duration

if TYPE_CHECKING:
    from flowpipe.tsn.run_folder import RunFacts
    from flowpipe.tsn.testing.predict import Prediction

_BAR = 30
_LONG_S = 30.0
"""Duration above which a video is likely to be untrimmed, seconds."""


@click.command()
@click.argument("source", metavar="VIDEO")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...",
                type=RUN)  # fmt: skip
@WEIGHTS_OPTION
@test_options
@click.option("--top", type=click.IntRange(1), default=5, show_default=True,
              help="Number of classes to print.")  # fmt: skip
@click.option("--least", type=Number(0, 1), default=0.5, show_default=True,
              help="Smallest probability at which the time line names a class.")  # fmt: skip
@click.option("--recipe", "recipe_file", type=RECIPE, metavar="NAME|FILE",
              help="Extraction recipe, for runs of imported stores.  [default: the recipe of the "
                   "run's store]")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Change one value of the extraction recipe, such as --set flow.weights=FILE, "
                   "which a store does not record.")  # fmt: skip
@CHECKPOINT_OPTION
@live_options
@click.option("--device", type=Choice(devices.CHOICES), default="auto", show_default=True,
              help="Device that computes; auto uses a GPU if there is one.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True,
              help="Print one JSON object, with --live one a line for each snippet.")  # fmt: skip
def predict(
    source: str,
    runs: tuple[Path, ...],
    weights: str | None,
    top: int,
    least: float,
    recipe_file: str | None,
    settings: tuple[str, ...],
    checkpoint: str,
    live: bool,
    window_s: float | None,
    show: bool,
    output: Path | None,
    amp: str,
    compiled: bool,
    device: str,
    as_json: bool,
    **changed: Any,
) -> None:
    """Classify a VIDEO with the networks of one or more RUNs.

    \b
    flowpipe predict clip.mp4 runs/rgb1 runs/flow1 --weights 1,1.5
    flowpipe predict long.mp4 runs/flow1 --protocol mtwi --json
    flowpipe predict --live 0 runs/rgb1 runs/rgb_diff1 --show

    The video is extracted into a temporary folder with the recipe of the run's store. With --live
    nothing is stored: the networks of rgb and rgb_diff score snippets of the frames as they come.
    """
    torch_or_why()
    from flowpipe.tsn.device import choose_device
    from flowpipe.tsn.testing.predict import FusedRun, same_classes
    from flowpipe.tsn.testing.predict import predict as run_prediction

    options = LiveOptions(
        window_s=window_s,
        show=show,
        output=output,
        amp=amp,
        compiled=compiled,
        top=top,
        least=least,
        as_json=as_json,
    )
    if not live:
        options.check_unused()
    is_camera = live and is_stream(source)
    video = Path(source) if is_camera else PLACE.convert(source, None, None)
    if not is_camera:
        _check_file(video)
    facts = same_classes(runs)
    of_runs, origin = weights_of(weights, [plain(one) for one in facts])
    if weights is None and len(runs) > 1:
        say(f"weights {', '.join(f'{weight:g}' for weight in of_runs)} ({origin})")
    plans = _extractions(runs, facts, recipe_file, settings)
    if live:
        if len(plans) > 1:
            raise UsageError(
                "--live needs runs whose stores were extracted with one recipe, and these have "
                f"{len(plans)}; name one with --recipe"
            )
        predict_live(
            source,
            plans[0].recipe,
            runs,
            of_runs,
            checkpoint=checkpoint,
            device=device,
            options=options,
            changed=changed,
        )
        return
    params = test_params(facts[0].test, **changed)
    network_device, began = choose_device(device), time.monotonic()
    with scratch_folder("flowpipe-predict") as folder:
        stores: dict[Path, Path] = {}
        for number, plan in enumerate(plans):
            store = folder / f"store-{number}"
            video_id = _extract(video, plan.recipe, store, device)
            stores |= dict.fromkeys(plan.runs, store)
        fused_runs = [
            FusedRun(run, stores[run], weight, params)
            for run, weight in zip(runs, of_runs, strict=True)
        ]
        extracted = time.monotonic()
        with count_progress("scoring with each network") as progress:
            found = run_prediction(video_id, fused_runs, network_device, checkpoint, progress)
    say(
        f"extracted in {duration(extracted - began)}, "
        f"scored in {duration(time.monotonic() - extracted)}"
    )
    if as_json:
        write_json(_to_json_values(video, runs, found, top, least))
        return
    _show(found, runs, top)
    if params.protocol == "mtwi":
        _show_time_line(found, least)
    elif found.end_s > _LONG_S:
        say(
            f"this video is {found.end_s:.0f} s long: --protocol mtwi also localises actions in "
            "time"
        )


def _check_file(video: PathOrUrl) -> None:
    """Raise UsageError unless a video is a file."""
    if not video.exists():
        raise UsageError(f"{video}: no such file")
    if isinstance(video, Path) and video.is_dir():
        raise UsageError(
            f"{video} is a folder; wanted one video file; for many videos use flowpipe "
            "extract and flowpipe test"
        )


@dataclass(frozen=True)
class _Extraction:
    """An extraction recipe and the runs that use it."""

    recipe: ExtractRecipe
    runs: tuple[Path, ...]


def _extractions(
    runs: tuple[Path, ...],
    facts: list[RunFacts],
    recipe_file: str | None,
    settings: tuple[str, ...],
) -> list[_Extraction]:
    """Group runs whose stores differ only in their modalities, one extraction each."""
    wanted: dict[str, tuple[dict[str, Any], list[Path], dict[str, Any]]] = {}
    for run, one in zip(runs, facts, strict=True):
        values = dict(one.extraction)
        if recipe_file:
            values = plain(read_recipe(recipe_file).build()[0])
        elif "imported" in values:
            raise UsageError(
                f"{run} was trained on an imported store, which does not record how its images "
                "were extracted; name the extraction recipe with --recipe"
            )
        values = override(values, settings)
        codecs = values.pop("codecs", {})
        values.pop("modalities", None)
        _, members, needed = wanted.setdefault(digest(values), (values, [], {}))
        members.append(run)
        needed[one.stored] = codecs.get(one.stored)
    return [
        _Extraction(_recipe_of(values, needed), tuple(members))
        for values, members, needed in wanted.values()
    ]


def _recipe_of(values: dict[str, Any], codecs: dict[str, Any]) -> ExtractRecipe:
    """Build a recipe for the modalities in `codecs`; None means the modality's default codec."""
    chosen = {name: codec for name, codec in codecs.items() if codec}
    return build(ExtractRecipe, {**values, "modalities": list(codecs), "codecs": chosen})


def _extract(video: PathOrUrl, recipe: ExtractRecipe, store: Path, device: str) -> str:
    """Extract one video into a new store and return its id; raise FlowpipeError if that fails."""
    chosen = devices.for_decoder(devices.choose(device, None, None, ""), recipe.video.decoder)
    if chosen.device == "cpu":
        values, warning = without_core(plain(recipe))
        if warning:
            say(f"warning: {warning}", "yellow")
        recipe = build(ExtractRecipe, values)
    options = RunOptions(
        store, workers=chosen.workers, device=chosen.device, gpus=chosen.gpus,
        worker=WorkerOptions(on_error="partial"),
        split_s=10,  # all cores share the video
    )  # fmt: skip
    record = VideoRecord("video", str(video.absolute() if isinstance(video, Path) else video))
    dataset = Dataset("list", (), (record,))
    with ExtractionDisplay(failures=False) as display:
        extract(plan_run(ExtractJob(dataset, {}, recipe, options)), display)
    damage = [entry.outcome for entry in Quarantine(store).read()]
    if record.video_id not in open_store(store).videos:
        reason = damage[0] if damage else None
        why = reason.message.removeprefix(f"{record.path} ") if reason else "no frames"
        raise FlowpipeError(
            f"{video} cannot be extracted: {why}",
            reason=reason.reason if reason else "no_frames",
        )
    return record.video_id


def _show(found: Prediction, runs: tuple[Path, ...], top: int) -> None:
    """Print the most probable classes with a bar, and their probability in each run."""
    alone = [run.name for run in runs] if len(runs) > 1 else []
    rows = (
        (
            found.class_names[k], f"{found.probabilities[k]:.3f}", _bar(found.probabilities[k]),
            *(f"{one[k]:.3f}" for one in found.of_runs[: len(alone)]),
        )
        for k in found.top(top)
    )  # fmt: skip
    print_table(rows, header=("class", "probability", "", *alone))


def _show_time_line(found: Prediction, least: float) -> None:
    from flowpipe.tsn.testing.predict import time_line

    rows = (
        (
            f"{_clock(one.start_s)} - {_clock(one.end_s)}",
            "-" if one.label is None else found.class_names[one.label],
            f"{one.probability:.3f}", _bar(one.probability) if one.label is not None else "",
        )
        for one in time_line(found, least)
    )  # fmt: skip
    write_line()
    print_table(rows, header=("time", "class", "probability", ""))


def _bar(probability: float) -> str:
    return "█" * round(_BAR * probability)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def _to_json_values(
    video: PathOrUrl, runs: tuple[Path, ...], found: Prediction, top: int, least: float
) -> dict[str, Any]:
    from flowpipe.tsn.testing.predict import time_line

    names = found.class_names

    def likeliest(values: Any) -> list[dict[str, Any]]:
        order = (-values).argsort(kind="stable")[:top].tolist()
        return [{"class": names[k], "probability": float(values[k])} for k in order]

    return {
        "video": str(video),
        "end_s": found.end_s,
        "top": likeliest(found.probabilities),
        "runs": {
            str(run): likeliest(one) for run, one in zip(runs, found.of_runs, strict=True)
        },
        "time_line": [
            {
                "start_s": one.start_s, "end_s": one.end_s,
                "class": None if one.label is None else names[one.label],
                "probability": one.probability,
            }
            for one in time_line(found, least)
        ],
        "snippets": [
            {"time_s": float(time_s), "top": likeliest(values)}
            for time_s, values in zip(found.times_s, found.by_snippet, strict=True)
        ],
    }  # fmt: skip
