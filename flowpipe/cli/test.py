"""`flowpipe test`: a store + a trained network -> a file of scores, and their figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from flowpipe.cli.evaluate import print_results
from flowpipe.cli.paths import FILE, FOLDER_THERE
from flowpipe.cli.screen import counting, say
from flowpipe.cli.store_options import STORE_ARGUMENT, check_output
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.evaluation import Scores, evaluate, protocol_of, write_scores
from flowpipe.recipe import plain
from flowpipe.store import open_store
from flowpipe.tsn.sampling import RULES
from flowpipe.words import counted


@click.command()
@STORE_ARGUMENT
@click.argument("run", type=FOLDER_THERE)
@click.option("-o", "--out", required=True, type=FILE,
              help="File of scores, .h5.")  # fmt: skip
@click.option("--split", default="", metavar="NAME",
              help="As test1.  [default: that of the run]")  # fmt: skip
@click.option("--protocol", type=click.Choice(["dense", "mtwi"]),
              help="The mean of evenly spaced snippets, or the best windows of untrimmed videos.  "
                   "[default: the recipe's]")  # fmt: skip
@click.option("--snippets", type=click.IntRange(1), help="Of dense.  [default: the recipe's, 25]")
@click.option("--crops", type=click.Choice(["1", "5", "10"]), help="[default: the recipe's, 10]")
@click.option("--of-crops", type=click.Choice(["mean", "max"]),
              help="What the crops of a snippet say together.  [default: the recipe's, mean]",
              )  # fmt: skip
@click.option("--mtwi", type=click.Choice(["paper", "code"]),
              help="Variant of mtwi: the paper's formula or the authors' code.  "
                   "[default: the recipe's, paper]")  # fmt: skip
@click.option("--sampling", type=click.Choice(list(RULES)),
              help="Snippet sampling strategy.  [default: the run's]")  # fmt: skip
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="last",
              show_default=True, help="Weights of the best validation, or of the end.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True)  # fmt: skip
def test(
    store: Path,
    run: Path,
    out: Path,
    split: str,
    protocol: str | None,
    snippets: int | None,
    crops: str | None,
    of_crops: str | None,
    mtwi: str | None,
    sampling: str | None,
    checkpoint: str,
    device: str,
) -> None:
    """Score the test videos of a STORE with the network of a RUN.

    As the papers do: 25 snippets of 10 crops, the mean over crops, then over snippets, of what the
    network says before softmax.
    """
    torch_or_why()
    from flowpipe.tsn.device import chosen_device
    from flowpipe.tsn.run_folder import RunFacts
    from flowpipe.tsn.test import TestJob
    from flowpipe.tsn.test import test as run_test

    check_output(out, ".h5")
    changed: dict[str, Any] = {
        "protocol": protocol,
        "snippets": snippets,
        "crops": crops,
        "of_crops": of_crops,
        "mtwi": mtwi,
    }
    params = replace(
        RunFacts.read(run).test, **{name: v for name, v in changed.items() if v is not None}
    )
    job = TestJob(
        store.absolute(), run.absolute(), split, params, f"{checkpoint}.pt",
        chosen_device(device), sampling,  # type: ignore[arg-type]
    )  # fmt: skip
    with counting("testing videos") as progress:
        tested = run_test(job, progress)
    opened = open_store(store)
    positives = np.zeros(tested.scores.shape, bool)
    for row, video_id in enumerate(tested.video_ids):
        positives[row, list(opened.videos[video_id].labels)] = True
    scores = Scores(str(out), tested.video_ids, tested.scores, positives)
    facts = {**plain(tested.facts), "split_name": split or f"test{tested.facts.split}"}
    write_scores(out, scores, facts)
    say(f"{out}: {counted(len(tested.video_ids), 'video')}")
    figures = evaluate(protocol_of(tested.facts.dataset), tested.scores, positives)
    print_results({facts["split_name"]: figures}, tested.facts.class_names, False, False)
