"""Store + trained run -> scores of every test video: many snippets, many crops, one mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError, UsageError
from flowpipe.evaluation.ground_truth import ALL
from flowpipe.params import plain
from flowpipe.splits import split_names, test_split
from flowpipe.store import Store, open_store
from flowpipe.tsn.data.lacking import describe_without_images
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES, SamplingStrategy
from flowpipe.tsn.device import choose_kernels, keep_freed_memory
from flowpipe.tsn.distributed import processes_from_environment
from flowpipe.tsn.recipe import Sampling, TestParams
from flowpipe.tsn.run_folder import LAST, RunFacts
from flowpipe.tsn.testing import mtwi
from flowpipe.tsn.testing.partial_scores import PartialScores, partial_path
from flowpipe.tsn.testing.pooling import Pooling
from flowpipe.tsn.testing.scorer import SnippetScorer, SnippetScores
from flowpipe.words import count_noun, unknown_name

_POLL_S = 0.2
"""Interval at which the scores of the other processes are polled, seconds."""


@dataclass(frozen=True)
class TestJob:
    """Run, store and options of a test."""

    store: Path
    run: Path
    _: KW_ONLY
    split: str = ""
    """Split to test; by default the test split of the run's split, see `test_split`."""
    params: TestParams | None = None
    """Parameters of the test; None for those of the run's recipe."""
    checkpoint: str = LAST
    device: str = "cpu"
    sampling: Sampling | None = None
    """Sampling strategy; None for the run's."""
    amp: str = "off"
    """Key of `AMP`: precision of the network's arithmetic."""
    out: Path | None = None
    """File for the scores, from which a test resumes; see `PartialScores`."""


@dataclass(frozen=True, kw_only=True)
class TestScores:
    """Scores of the videos of a split."""

    video_ids: tuple[str, ...]
    scores: NDArray[np.float64]
    """(N, C), before any softmax."""
    facts: RunFacts
    pooling: Pooling
    left_out: tuple[str, ...]
    """Videos of the split without an image, such as silent ones for a network of sound."""
    settings: Mapping[str, Any]
    """JSON values that determine the scores: the facts of the run and of the test."""
    computed: int
    """Number of videos that this test scored."""


def test(
    job: TestJob,
    progress: Callable[[int, int], None],
    tell: Callable[[str], None] = lambda line: None,
) -> TestScores | None:
    """Score all videos of a split that have images.

    Crops are pooled, then snippets: see `Pooling`. The processes of `launch` or torchrun share the
    videos; a file beside `job.out` brings their scores together. Videos whose scores are in
    `job.out` are not scored again.

    Parameters
    ----------
    job : TestJob
        Store, run and settings.
    progress : callable
        Called with the number of finished videos, of all processes, and of all videos.
    tell : callable
        Called with each log line.

    Returns
    -------
    TestScores or None
        None in all processes but the first.

    Raises
    ------
    UsageError
        If the store lacks the modality, the split or the classes, or `job.out` has the scores of
        another test.
    FlowpipeError
        If the scores of a video are not finite.
    """
    if job.device == "cpu":
        keep_freed_memory()
    here = processes_from_environment(job.device)
    if here.world > 1 and job.out is None:
        raise UsageError("several processes share a test through a file: out is missing")
    network, store = (
        SnippetScorer(job.run, job.checkpoint, here.device, job.amp),
        open_store(job.store),
    )
    facts, params = network.facts, job.params or network.facts.test
    if job.sampling:
        facts = replace(facts, stream=replace(facts.stream, sampling=job.sampling))
    facts = replace(facts, test=params)
    if store.header.class_names != facts.class_names:
        raise UsageError(
            f"{job.store} has other classes ({len(store.header.class_names)}) than {job.run} was "
            f"trained for ({len(facts.class_names)})"
        )
    if facts.stored not in store.modalities:
        raise UsageError(f"{job.store} has no {facts.stored}, which {job.run} reads")
    split = job.split or test_split(split_names(store.videos.values()), facts.split)
    chosen = {
        key: video for key, video in store.videos.items() if split == ALL or split in video.splits
    }
    videos = [key for key, video in chosen.items() if video.images[facts.stored] > 0]
    left_out = tuple(key for key, video in chosen.items() if not video.images[facts.stored])
    if not videos:
        known = split_names(store.videos.values())
        if split in known:
            raise UsageError(f"split {split} of {job.store} has no {facts.stored} images to test")
        raise UsageError(f"{job.store}: {unknown_name('split', split, [*known, ALL])}")
    if params.protocol == "dense":  # else batches have many sizes, and cuDNN would measure each
        choose_kernels(here.device, deterministic=False)
    for line in network.input.remarks(facts.stream.compat) if here.is_first else ():
        tell(line)
    if here.is_first and left_out:
        tell(describe_without_images(len(left_out), len(chosen), split, facts.stored))
    if here.is_first and (other := facts.describe_other_images(store.header.recipe)):
        tell(f"{job.store} was extracted otherwise than the store of {job.run}: {other}")
    rule = SAMPLING_STRATEGIES[facts.stream.sampling]
    pooling = Pooling(params, facts.stream, network.model.consensus)
    starts = {key: starts_of(network, store, key, params, rule) for key in videos}
    settings = {
        **plain(facts), "split_name": split, "consensus": pooling.facts(), "amp": job.amp,
        "store": str(job.store), "store_digest": store.header.recipe_digest,
        "store_created": store.header.created_utc, "network": network.digest,
    }  # fmt: skip
    with PartialScores(job.out, settings) as finished:
        # Longest first, so that each process gets as much; the same share on every start.
        share = sorted(videos, key=lambda key: -len(starts[key]))[here.rank :: here.world]
        left = [key for key in share if key not in finished.scores]
        computed = len(starts.keys() - finished.scores)
        if here.is_first and computed < len(videos):
            tell(_describe_resumed(job.out, finished, starts.keys()))
        wanted = ((key, starts[key]) for key in left)
        scored = network.score_videos(store, wanted, int(params.crops), rule.tail)
        for key, of_snippets in zip(left, scored, strict=True):
            finished.add(key, _finite(pooling(of_snippets), key, job.amp))
            if here.is_first:
                finished.update()
                progress(len(finished.scores.keys() & starts), len(videos))
        if not here.is_first:
            if starts.keys() <= finished.written:  # the first process has come to its end
                finished.delete()
            return None
        while missing := starts.keys() - finished.scores:
            progress(len(videos) - len(missing), len(videos))
            time.sleep(_POLL_S)
            finished.update()
        scores = np.stack([finished.scores[key] for key in videos])
    return TestScores(
        video_ids=tuple(videos),
        scores=scores,
        left_out=left_out,
        facts=facts,
        pooling=pooling,
        settings=settings,
        computed=computed,
    )


def _describe_resumed(out: Path | None, finished: PartialScores, wanted: Collection[str]) -> str:
    """Return the log line of a test that resumes."""
    of = count_noun(len(wanted), "video")
    if finished.written.issuperset(wanted):
        return f"{out} has the scores of {of} already: there is nothing to compute"
    path = out if out and finished.written else out and partial_path(out)
    return f"resuming: {path} has {len(finished.scores.keys() & set(wanted))} of {of}"


def _finite(scores: NDArray[np.float64], video_id: str, amp: str) -> NDArray[np.float64]:
    """Return scores; FlowpipeError if one of them is infinite or not a number."""
    if np.isfinite(scores).all():
        return scores
    hint = "try --amp bf16 or off" if amp == "fp16" else "did the training diverge?"
    raise FlowpipeError(f"the scores of {video_id} are not finite; {hint}")


def starts_of(
    network: SnippetScorer, store: Store, video_id: str, params: TestParams, rule: SamplingStrategy
) -> NDArray[np.int64]:
    """Choose the snippets of a video.

    ``dense``: `params.snippets` of them, evenly; ``mtwi``: at a rate by time.

    Parameters
    ----------
    network : SnippetScorer
        Trained network.
    store : Store
        Store of the video.
    video_id : str
        Id of the video.
    params : TestParams
        Settings of the test.
    rule : SamplingStrategy
        Sampling strategy of ``dense``.

    Returns
    -------
    int64 (S,)
        First image of each snippet.
    """
    count = store.videos[video_id].images[network.input.stored]
    if params.protocol == "dense":
        return rule.test(count, params.snippets, network.input.read)
    return mtwi.starts_at(store.videos[video_id].times_s(network.input.stored), params.rate_hz)


def snippets_of(
    network: SnippetScorer, store: Store, video_id: str, params: TestParams, rule: SamplingStrategy
) -> tuple[NDArray[np.float64], SnippetScores]:
    """Score the snippets of a video.

    Parameters
    ----------
    network : SnippetScorer
        Trained network.
    store : Store
        Store of the video.
    video_id : str
        Id of the video.
    params : TestParams
        Settings of the test.
    rule : SamplingStrategy
        Sampling strategy of ``dense``.

    Returns
    -------
    times_s : float64 (S,)
        Start of each snippet, seconds.
    scores : SnippetScores
        Scores of each snippet and crop.
    """
    starts = starts_of(network, store, video_id, params, rule)
    scored = network.snippet_scores(store, video_id, starts, int(params.crops), rule.tail)
    count = store.videos[video_id].images[network.input.stored]
    times_s = store.videos[video_id].times_s(network.input.stored)
    return times_s[np.clip(starts, 0, count - 1)], scored
