"""Options of test and predict -> TestParams: snippets, crops and how their scores combine."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.numbers import Number
from flowpipe.cli.store_options import chain
from flowpipe.errors import UsageError
from flowpipe.tsn.recipe import TestParams
from flowpipe.words import unknown_name

_CHECKPOINT = re.compile(r"best|last|ema|epoch-\d{3,}")


def _checkpoint(context: click.Context, option: click.Parameter, name: str) -> str:
    """Return the file name of the checkpoint that ``--checkpoint`` names."""
    if not _CHECKPOINT.fullmatch(name):
        known = ("best", "last", "ema", "epoch-NNN")
        raise click.UsageError(unknown_name("--checkpoint", name, known), context)
    return f"{name}.pt"


CHECKPOINT_OPTION = click.option(
    "--checkpoint", default="last", show_default=True, callback=_checkpoint, metavar="NAME",
    help="Weights of the best validation (best), of the end of training (last), their moving "
    "average at the end (ema), or of an epoch that train --keep-every kept (epoch-010).",
)  # fmt: skip
"""Option ``--checkpoint``: name of a checkpoint in the folder of a run."""

MOST_RATE_HZ = 1000
"""Most snippets per second; few videos have as many frames."""

test_options = chain(
    click.option(
        "--protocol", type=Choice(["dense", "mtwi"]),
        help="dense: evenly spaced snippets. mtwi, for untrimmed videos: snippets at a rate by "
             "time, in windows of several lengths.  [default: the recipe's]",
    ),
    click.option(
        "--snippets", type=click.IntRange(1),
        help="Number of snippets of protocol dense.  [default: the recipe's, 25]",
    ),
    click.option(
        "--rate", "rate_hz", type=Number(0, MOST_RATE_HZ, min_open=True), metavar="HZ",
        help="Snippets per second of protocol mtwi.  [default: the recipe's, 1]",
    ),
    click.option(
        "--crops", type=Choice(["1", "5", "10"]),
        help="Number of crops per snippet.  [default: the recipe's, 10]",
    ),
    click.option(
        "--of-crops", type=Choice(["mean", "max"]),
        help="Pooling of the crop scores of a snippet.  [default: the recipe's, mean; max with "
             "--mtwi code]",
    ),
    click.option(
        "--consensus",
        type=Choice(["trained", "average", "max", "top_k", "linear", "attention"]),
        help="Consensus of the snippets, or of the windows of mtwi. trained: the consensus of "
             "training; for mtwi top_k, unless attention was trained.  [default: the recipe's, "
             "trained]",
    ),
    click.option(
        "--top-k", type=click.IntRange(1), metavar="N",
        help="Number of snippets or windows that consensus top_k averages.  [default: the "
             "recipe's: as many as in training; for mtwi a quarter of the windows, at least 15]",
    ),
    click.option(
        "--mtwi", type=Choice(["code", "paper"]),
        help="Windows of mtwi: code (as in the authors' code) covers the whole video; paper (the "
             "paper's formula) may leave out its end.  [default: the recipe's, code]",
    ),
)  # fmt: skip


def test_params(params: TestParams, **options: Any) -> TestParams:
    """Return the parameters with the given options applied.

    Raises
    ------
    UsageError
        If the options contradict each other.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return replace(params, **given)
    except ValueError as error:
        raise UsageError(f"{' '.join(f'{n} {v}' for n, v in given.items())}: {error}") from error
