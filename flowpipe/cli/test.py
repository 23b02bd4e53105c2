"""`flowpipe test`: a store and a trained network -> a file of scores and their accuracy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from flowpipe.cli import EXIT_DONE
from flowpipe.cli.choices import Choice
from flowpipe.cli.evaluate import print_results
from flowpipe.cli.folders import RUN
from flowpipe.cli.paths import FILE
from flowpipe.cli.processes import devices_option, launch_processes
from flowpipe.cli.screen import count_progress, say
from flowpipe.cli.store_options import STORE_ARGUMENT, check_output
from flowpipe.cli.test_options import CHECKPOINT_OPTION, test_options, test_params
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.datasets import published_test
from flowpipe.evaluation import PROTOCOLS, Scores, evaluate, write_scores
from flowpipe.store import open_store
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES
from flowpipe.words import byte_size, count_noun, duration


@click.command()
@STORE_ARGUMENT
@click.argument("run", type=RUN)
@click.option("-o", "--out", required=True, type=FILE,
              help="File for the scores, .h5.")  # fmt: skip
@click.option("--split", default="", metavar="NAME",
              help="Split to test.  [default: test<k> of the run's split k, or val<k>]",
              )  # fmt: skip
@test_options
@click.option("--sampling", type=Choice(list(SAMPLING_STRATEGIES)),
              help="Snippet sampling strategy.  [default: the run's]")  # fmt: skip
@CHECKPOINT_OPTION
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True, help="Device that computes; auto uses a GPU if there is one.",
              )  # fmt: skip
@devices_option("Processes of this machine that share the videos, one GPU each.")
@click.option("--amp", type=Choice(["off", "bf16", "fp16"]), default="off",
              show_default=True, help="Automatic mixed precision.")  # fmt: skip
def test(
    store: Path,
    run: Path,
    out: Path,
    split: str,
    sampling: str | None,
    checkpoint: str,
    device: str,
    devices: int | None,
    amp: str,
    **changed: Any,
) -> int:
    """Score the test videos of a STORE with the network of a RUN.

    \b
    flowpipe test store runs/flow1 -o flow1.h5

    The defaults follow the papers: 25 snippets of 10 crops; scores before softmax are averaged over
    the crops and combined over the snippets by the trained consensus.

    The same command resumes an interrupted test, with any number of devices: scores of finished
    videos are kept in OUT.partial. Videos whose scores are in OUT are not computed again. An OUT of
    another test is rejected.
    """
    torch_or_why()
    check_output(out, ".h5")
    code = launch_processes(devices, device)
    if code is not None:
        return code
    from flowpipe.tsn.device import choose_device, peak_memory_mb
    from flowpipe.tsn.run_folder import RunFacts
    from flowpipe.tsn.testing.partial_scores import partial_path
    from flowpipe.tsn.testing.test import TestJob
    from flowpipe.tsn.testing.test import test as run_test

    params = test_params(RunFacts.read(run).test, **changed)
    job = TestJob(
        store.absolute(), run.absolute(), split=split, params=params, checkpoint=checkpoint,
        device=choose_device(device), sampling=sampling, amp=amp, out=out.absolute(),  # type: ignore[arg-type]
    )  # fmt: skip
    began = time.monotonic()
    with count_progress("testing videos") as progress:
        tested = run_test(job, progress, say)
    if tested is None:  # the first process writes the file
        return EXIT_DONE
    opened = open_store(store)
    positives = np.zeros(tested.scores.shape, bool)
    for row, video_id in enumerate(tested.video_ids):
        positives[row, list(opened.videos[video_id].labels)] = True
    scores = Scores(str(out), tested.video_ids, tested.scores, positives, tested.left_out)
    write_scores(out, scores, tested.settings)
    partial_path(out).unlink(missing_ok=True)
    words = tested.pooling.describe()
    if tested.computed:
        took = duration(time.monotonic() - began)
        peak = byte_size(1e6 * peak_memory_mb(job.device))
        videos = count_noun(len(tested.video_ids), "video")
        words = f"{out}: {videos} in {took}, peak memory {peak}; {words}"
    say(words)
    protocol = PROTOCOLS[published_test(tested.facts.dataset).protocol]
    figures = evaluate(protocol, tested.scores, positives)
    print_results({tested.settings["split_name"]: figures}, tested.facts.class_names, False, False)
    return EXIT_DONE
