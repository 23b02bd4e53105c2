"""Options of the commands that train, test and fuse networks, and their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.paths import RECIPE
from flowpipe.cli.store_options import chain, stored_dataset
from flowpipe.errors import UsageError
from flowpipe.modality import MODALITIES
from flowpipe.recipes import read_recipe, recipe_of
from flowpipe.tsn.data.normalisation import NORMALISATIONS
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES
from flowpipe.tsn.recipe import TrainRecipe
from flowpipe.words import count_noun

stream_options = chain(
    click.option("--modality", required=True, type=Choice(list(MODALITIES)),
        help="Modality of the stream.",
    ),
    click.option(
        "--split", type=click.IntRange(1), default=1, show_default=True,
        help="Number k: train on train<k>, validate on val<k>, or else on test<k>.",
    ),
    click.option(
        "--recipe", "recipe_file", type=RECIPE, metavar="NAME|FILE",
        help="Recipe with the train section to use.  [default: the data set's own]",
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE",
        help="Change one value of the train section, such as --set streams.rgb.dropout=0.5.",
    ),
    click.option(
        "--sampling", type=Choice(list(SAMPLING_STRATEGIES)),
        help="Snippet sampling strategy.  [default: the recipe's]",
    ),
    click.option(
        "--pixels", type=Choice(["backbone", *NORMALISATIONS]),
        help="Input normalisation the weights expect.  [default: the recipe's]",
    ),
)  # fmt: skip
"""Options that choose a stream of a recipe."""


def train_recipe(store: Path, recipe_file: str | None, settings: tuple[str, ...]) -> TrainRecipe:
    """Return the train section that `stream_options` select for a store.

    Raises
    ------
    UsageError
        If the recipe has no train section.
    """
    file = read_recipe(recipe_file) if recipe_file else recipe_of(stored_dataset(store))
    _, made = file.build([f"train.{setting}" for setting in settings])
    if made is None:
        raise UsageError(f"{file.path} has no train section; name another with --recipe")
    return made


def apply_options(made: TrainRecipe, modality: str, **options: str | None) -> TrainRecipe:
    """Return the recipe with the given options applied to the stream of a modality.

    Raises
    ------
    UsageError
        If the recipe does not train the modality.
    """
    if modality not in made.streams:
        raise UsageError(
            f"the recipe trains {', '.join(made.streams)}, not {modality}; add it to train.streams "
            "or name another recipe with --recipe"
        )
    given = {name: value for name, value in options.items() if value is not None}
    stream = replace(made.streams[modality], **given)  # type: ignore[arg-type]
    return replace(made, streams={**made.streams, modality: stream})


def list_given_options(modality: str, settings: tuple[str, ...], **options: str | None) -> set[str]:
    """Return the names of the stream's fields that the command line sets.

    >>> settings = ("streams.rgb.dropout=0.5",)
    >>> sorted(list_given_options("rgb", settings, sampling="dense", pixels=None))
    ['dropout', 'sampling']
    """
    start = f"streams.{modality}."
    names = {one.removeprefix(start).partition("=")[0] for one in settings if one.startswith(start)}
    return names | {name for name, value in options.items() if value is not None}


WEIGHTS_OPTION = click.option(
    "--weights", metavar="LIST",
    help="Weight per stream, such as 1,1.5.  [default: the recipe's if all runs share one, else 1]",
)  # fmt: skip


def weights_of(text: str | None, runs: Sequence[Mapping[str, Any]]) -> tuple[list[float], str]:
    """Return the weight of each stream in a fusion, and where the weights come from.

    Parameters
    ----------
    text : str, optional
        Value of `WEIGHTS_OPTION`.
    runs : sequence of mappings
        Facts of the run of each stream, optionally with ``modality`` and ``fusion``.

    Raises
    ------
    UsageError
        If `text` is not one number from 0 up per stream, with at least one above 0.
    """
    if text is None:
        return _weights_of_recipe(runs)
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != len(runs) or not _fit(weights):
        raise UsageError(
            f"--weights must be {count_noun(len(runs), 'number')} from 0 up, one of them above 0, "
            f"such as {','.join(['1', '1.5', *['1'] * len(runs)][: len(runs)])}, got {text}"
        )
    return weights, "--weights"


def _weights_of_recipe(runs: Sequence[Mapping[str, Any]]) -> tuple[list[float], str]:
    """Return the weights in the recipe that all streams share, or 1 for each stream."""
    streams = [str(run.get("modality", "")) for run in runs]
    fusions = [run.get("fusion") for run in runs]
    shared = fusions[0] if fusions and all(one == fusions[0] for one in fusions) else None
    alike = len(set(streams)) == len(streams) and not any("fused" in run for run in runs)
    if len(runs) > 1 and alike and isinstance(shared, Mapping) and set(streams) <= set(shared):
        weights = [float(shared[name]) for name in streams]
        if _fit(weights):
            return weights, "the recipe that the runs share"
    return [1.0] * len(runs), "the default: the runs share no recipe with weights for them"


def _fit(weights: Sequence[float]) -> bool:
    return all(0 <= weight < math.inf for weight in weights) and any(weights)
