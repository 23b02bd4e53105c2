"""`flowpipe fuse`: scores of several streams -> the accuracy of each and of their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.networks import WEIGHTS_OPTION, weights_of
from flowpipe.cli.paths import FILE, THERE
from flowpipe.cli.screen import print_table, say
from flowpipe.datasets import published_test
from flowpipe.errors import UsageError
from flowpipe.evaluation import (
    PROTOCOLS,
    Result,
    Scores,
    evaluate,
    probabilities,
    read_facts,
    read_h5,
    write_scores,
)
from flowpipe.evaluation import (
    fuse as fuse_scores,
)
from flowpipe.words import count_noun

SWEPT = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Weights that --sweep tries for every stream but the first."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=THERE)
@WEIGHTS_OPTION
@click.option("--softmax", is_flag=True,
              help="Fuse probabilities (mmaction2) instead of logits (TSN): the softmax, or the "
              "sigmoid for networks trained with bce.",
              )  # fmt: skip
@click.option("--sweep", is_flag=True,
              help="Also try many weights. The best are chosen on the test videos themselves: "
                   "do not publish their accuracy.")  # fmt: skip
@click.option("--protocol", "name", type=Choice(list(PROTOCOLS)),
              help="Evaluation protocol.  [default: the data set's own]")  # fmt: skip
@click.option("-o", "--out", type=FILE, help="File for the fused scores, .h5.")
def fuse(
    files: tuple[Path, ...],
    weights: str | None,
    softmax: bool,
    sweep: bool,
    name: str | None,
    out: Path | None,
) -> None:
    """Fuse the scores of streams that `flowpipe test` wrote: their weighted sum before softmax.

    \b
    flowpipe fuse rgb.h5 flow.h5
    flowpipe fuse rgb.h5 flow.h5 warped.h5 --weights 1,1,0.5 -o all.h5
    """
    streams = [read_h5(path) for path in files]
    of_files = [read_facts(path) for path in files]
    if softmax:
        streams = [
            probabilities(scores, by_class=_is_by_class(own))
            for scores, own in zip(streams, of_files, strict=True)
        ]
    facts = of_files[0]
    chosen, origin = weights_of(weights, of_files)
    if streams[0].positives is None:
        raise UsageError(f"{files[0]} has no labels: was it written by flowpipe test?")
    protocol = PROTOCOLS[name or published_test(str(facts.get("dataset", ""))).protocol]

    def figures(scores: Scores) -> Result:
        assert scores.positives is not None
        return evaluate(protocol, scores.values, scores.positives)

    total = fuse_scores(streams, chosen)
    rows = [(str(path), figures(s)) for path, s in zip(files, streams, strict=True)]
    if len(streams) > 1:
        rows.append((f"fused {_listed(chosen)}", figures(total)))
        say(f"weights {_listed(chosen)} ({origin})")
    names = list(rows[0][1].figures)
    print_table(
        ((row, *(f"{100 * result.figures[n]:.2f}" for n in names)) for row, result in rows),
        header=(count_noun(len(total.video_ids), "video"), *(f"{n}, %" for n in names)),
    )
    if sweep and len(streams) > 1:
        tried = [
            (figures(fuse_scores(streams, (1.0, *rest))).figures[names[0]], rest)
            for rest in product(SWEPT, repeat=len(streams) - 1)
        ]
        best, rest = max(tried)
        say(
            f"best of {count_noun(len(tried), 'weighting')}: {100 * best:.2f} % ({names[0]}): "
            f"--weights 1,{','.join(f'{w:g}' for w in rest)}; it was chosen on these videos"
        )
    if out is not None:
        if out.suffix != ".h5":
            raise UsageError(f"-o {out}: wanted a name that ends in .h5")
        write_scores(out, total, {**facts, "fused": [str(p) for p in files], "weights": chosen})
        say(f"wrote {out}")


def _is_by_class(facts: Mapping[str, Any]) -> bool:
    """Return whether the scores are of a run trained with binary cross-entropy."""
    stream = facts.get("stream")
    loss = stream.get("loss") if isinstance(stream, Mapping) else None
    return isinstance(loss, Mapping) and loss.get("name") == "bce"


def _listed(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:g}" for weight in weights)
