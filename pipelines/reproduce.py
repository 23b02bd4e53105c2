"""Reproduce the table of a TSN paper from the videos of a data set; read it from top to bottom.

    python pipelines/reproduce.py ucf101 --root /data/ucf101 --work /scratch/ucf101

extracts, trains every stream that the recipe fuses on every split, tests, fuses and prints the
table. Run again after an interruption it goes on where it was. What it does can be typed by hand:
each step is a flowpipe command, and is printed. With several GPUs training and testing run in a
process for each.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from flowpipe.modality import MODALITIES
from flowpipe.recipes import read_recipe


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.argument("dataset")
@click.option("--root", help="Folder or URL of the data set's download.")
@click.option(
    "--work", required=True, type=click.Path(path_type=Path), help="Folder of all results."
)
@click.option("--recipe", help="Name or file.  [default: the data set's own]")
@click.option("--set", "settings", multiple=True, help="As --set train.streams.rgb.dropout=0.5.")
@click.option(
    "--weights",
    metavar="RUN|FILE",
    help="Run, checkpoint or ImageNet weights that each stream begins with, as flowpipe train.",
)
@click.option("--also", metavar="STORE", help="Train on its videos too, as on UCF101 for THUMOS14.")
@click.option("--workers", default=4, show_default=True, help="Of the extraction.")
@click.option("--gpus", default=0, show_default=True, help="For extraction, training, testing.")
@click.option(
    "--amp",
    type=click.Choice(["off", "bf16", "fp16"]),
    default="off",
    show_default=True,
    help="Half precision in training and testing.",
)
@click.option("--allow-missing", is_flag=True, help="Go on without absent videos.")
def reproduce(
    dataset: str,
    root: str | None,
    work: Path,
    recipe: str | None,
    settings: tuple[str, ...],
    weights: str | None,
    also: str | None,
    workers: int,
    gpus: int,
    amp: str,
    allow_missing: bool,
) -> None:
    """Extract, train, test, fuse, print."""
    extraction, training = read_recipe(recipe or dataset).build(settings)
    if training is None:
        raise click.UsageError(f"the recipe {recipe or dataset} has no train section")
    store, streams = work / "store", [m for m in training.streams if training.fusion.get(m)]
    begun_with = {training.streams[m].init_stream for m in streams}
    trained = [m for m in training.streams if m in streams or m in begun_with]
    # Differences are computed from the stored images.
    stored = {m for m in trained if not MODALITIES[m].difference_of}
    needed = sorted({*extraction.modalities, *stored})
    of_section = {
        name: [s.partition(".")[2] for s in settings if s.startswith(f"{name}.")]
        for name in ("extract", "train")
    }

    # Without GPUs one process; torch has all cores.
    shared = ["--amp", amp, *(["--devices", gpus, "--device", "cuda"] if gpus else [])]
    flowpipe(
        "extract", "--dataset", dataset, *(["--root", root] if root else []), "--out", store,
        "--recipe", recipe or dataset, *repeat_option("--set", of_section["extract"]),
        "--modalities", ",".join(needed), *(["--gpus", gpus] if gpus else ["--workers", workers]),
        *(["--allow-missing"] if allow_missing else []), may_fail=True,
    )  # fmt: skip
    for split in training.splits:
        for modality in trained:
            run = work / f"{modality}-{split}"
            flowpipe(
                "train", store, "--modality", modality, "--split", split, "-o", run, "--recipe",
                recipe or dataset, *repeat_option("--set", of_section["train"]),
                *repeat_option("--weights", [weights] if weights else []),
                *repeat_option("--also", [also] if also else []), *shared,
            )  # fmt: skip
            scores = work / f"{modality}-{split}.h5"
            if not is_newer(scores, run / "last.pt"):
                scores.unlink(missing_ok=True)  # test refuses a file of other weights
                flowpipe("test", store, run, "-o", scores, *shared)
        flowpipe(
            "fuse", *(work / f"{modality}-{split}.h5" for modality in streams), "--weights",
            ",".join(str(training.fusion[m]) for m in streams), "-o", work / f"fused-{split}.h5",
        )  # fmt: skip
    table(store, work, [*trained, "fused"], training.splits)


def table(store: Path, work: Path, rows: list[str], splits: tuple[int, ...]) -> None:
    """Print every stream and their sum: each split and their mean. Write work/table.json."""
    figures = {
        row: evaluate(store, [work / f"{row}-{split}.h5" for split in splits], splits)
        for row in rows
    }
    (work / "table.json").write_text(json.dumps(figures, indent=1) + "\n")
    columns = list(figures[rows[0]])
    for name in figures[rows[0]][columns[0]]:
        print(f"\n{name}, %".ljust(24) + "".join(f"{column:>10}" for column in columns))
        for row in rows:
            values = (100 * figures[row][column][name] for column in columns)
            print(row.ljust(23) + "".join(f"{value:10.2f}" for value in values))


def evaluate(store: Path, scores: list[Path], splits: tuple[int, ...]) -> dict[str, Any]:
    """Return the figures by split."""
    chosen = repeat_option("--split", [f"test{split}" for split in splits])
    done = flowpipe("evaluate", store, *scores, *chosen, "--json", quiet=True)
    found: dict[str, Any] = json.loads(done.stdout)["splits"]
    return found


def repeat_option(option: str, values: Any) -> list[str]:
    """Repeat an option for each value."""
    return [word for value in values for word in (option, str(value))]


def is_newer(made: Path, source: Path) -> bool:
    """Return whether a file exists and is newer than its source."""
    return made.exists() and made.stat().st_mtime_ns > source.stat().st_mtime_ns


def flowpipe(
    *words: object, may_fail: bool = False, quiet: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run one command. Exit code 1, some videos failed, ends the run unless it is allowed."""
    arguments = [sys.executable, "-m", "flowpipe", *map(str, words)]
    print("+", shlex.join(["flowpipe", *map(str, words)]), flush=True)
    done = subprocess.run(arguments, text=True, capture_output=quiet, check=False)
    if done.returncode and not (may_fail and done.returncode == 1):
        sys.exit(f"{done.stderr or ''}flowpipe {words[0]} ended with {done.returncode}")
    return done


if __name__ == "__main__":
    reproduce()
