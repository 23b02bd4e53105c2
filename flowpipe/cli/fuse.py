"""`flowpipe fuse`: scores of several streams -> the accuracy of each and of their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.networks import WEIGHTS_OPTION, weights_of
from flowpipe.cli.paths import FILE, FILE_THERE
from flowpipe.cli.screen import print_table, say
from flowpipe.cli.store_options import check_output
from flowpipe.cli.torch_needed import torch_or_why
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
    read_original_scores,
    write_activitynet_results,
    write_scores,
)
from flowpipe.evaluation import (
    fuse as fuse_scores,
)
from flowpipe.words import agree_verb, count_noun

SWEPT = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Weights that --sweep tries for every stream but the first."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE_THERE)
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
@click.option("--rows", type=FILE_THERE,
              help="List of the videos of .npz files, one a line, in their order: the test list "
                   "for TSN, the sorted test list for tsn-pytorch. Needed beside .h5 files.",
              )  # fmt: skip
@click.option("--of-crops", type=Choice(["mean", "max"]), default="mean", show_default=True,
              help="Pooling of the crop scores in .npz files.")  # fmt: skip
@click.option("-o", "--out", type=FILE,
              help="File for the fused scores: .h5, .json for ActivityNet's evaluation, .pkl for "
                   "mmaction2's.")  # fmt: skip
def fuse(
    files: tuple[Path, ...],
    weights: str | None,
    softmax: bool,
    sweep: bool,
    name: str | None,
    rows: Path | None,
    of_crops: Literal["mean", "max"],
    out: Path | None,
) -> None:
    """Fuse the scores of streams: their weighted sum before softmax.

    \b
    flowpipe fuse rgb.h5 flow.h5
    flowpipe fuse rgb.h5 flow.h5 warped.h5 --weights 1,1,0.5 -o all.h5
    flowpipe fuse tsn_rgb.npz tsn_flow.npz --weights 1,1.5

    FILES are what `flowpipe test` writes (.h5), or what the tests of TSN and tsn-pytorch write with
    --save_scores (.npz).
    """
    if out is not None:
        check_output(out, *WRITERS, inputs=files)
    names = _rows_of(rows)
    streams = [
        read_original_scores(path, names, of_crops) if path.suffix == ".npz" else read_h5(path)
        for path in files
    ]
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
    for path, scores, own in zip(files, streams, of_files, strict=True):
        if lacking := len(total.video_ids) - len(scores.video_ids):
            videos = count_noun(len(total.video_ids), "video")
            say(
                f"{path}: {lacking} of {videos} {agree_verb(lacking, 'has', 'have')} no image of "
                f"{own.get('modality')}; the other streams alone score "
                f"{agree_verb(lacking, 'it', 'them')}"
            )
    table = [(str(path), figures(s)) for path, s in zip(files, streams, strict=True)]
    if len(streams) > 1:
        table.append((f"fused {_format_weights(chosen)}", figures(total)))
        say(f"weights {_format_weights(chosen)} ({origin})")
    measured = list(table[0][1].figures)
    print_table(
        ((row, *(f"{100 * result.figures[n]:.2f}" for n in measured)) for row, result in table),
        header=(count_noun(len(total.video_ids), "video"), *(f"{n}, %" for n in measured)),
    )
    if sweep and len(streams) > 1:
        tried = [
            (figures(fuse_scores(streams, (1.0, *rest))).figures[measured[0]], rest)
            for rest in product(SWEPT, repeat=len(streams) - 1)
        ]
        best, rest = max(tried)
        say(
            f"best of {count_noun(len(tried), 'weighting')}: {100 * best:.2f} % ({measured[0]}): "
            f"--weights 1,{','.join(f'{w:g}' for w in rest)}; it was chosen on these videos"
        )
    if out is not None:
        WRITERS[out.suffix.lower()](
            out, total, {**facts, "fused": [str(p) for p in files], "weights": chosen}
        )
        say(f"wrote {out}")


def _rows_of(path: Path | None) -> list[str]:
    """Return the names in a list, one a line: what precedes the first space, without folders."""
    if path is None:
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [PurePosixPath(line.split()[0]).stem for line in lines if line.strip()]


def _write_activitynet(path: Path, scores: Scores, facts: Mapping[str, Any]) -> None:
    names = facts.get("class_names")
    if not names:
        raise UsageError(
            f"-o {path}: ActivityNet's results have names of classes, and {scores.source} has none"
        )
    write_activitynet_results(path, scores, names)


def _write_mmaction2(path: Path, scores: Scores, facts: Mapping[str, Any]) -> None:
    torch_or_why()
    from flowpipe.tsn.testing.mmaction2_results import write_mmaction2_results

    write_mmaction2_results(path, scores)


WRITERS: Mapping[str, Callable[[Path, Scores, Mapping[str, Any]], None]] = {
    ".h5": write_scores,
    ".json": _write_activitynet,
    ".pkl": _write_mmaction2,
}
"""Writers of fused scores, by the ending of the file."""


def _is_by_class(facts: Mapping[str, Any]) -> bool:
    """Return whether the scores are of a run trained with binary cross-entropy."""
    stream = facts.get("stream")
    loss = stream.get("loss") if isinstance(stream, Mapping) else None
    return isinstance(loss, Mapping) and loss.get("name") == "bce"


def _format_weights(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:g}" for weight in weights)
