"""Store + trained run -> scores of every test video: many snippets, many crops, one mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.evaluation.truth import ALL
from flowpipe.store import Store, open_store
from flowpipe.train_recipe import Sampling, TestParams
from flowpipe.tsn import mtwi
from flowpipe.tsn.device import keep_freed_memory
from flowpipe.tsn.network import Network, SnippetScores
from flowpipe.tsn.pooling import Pooling
from flowpipe.tsn.run_folder import LAST, RunFacts
from flowpipe.tsn.sampling import RULES, Rule


@dataclass(frozen=True)
class TestJob:
    """What is tested on what, and how."""

    store: Path
    run: Path
    split: str = ""
    """Of the store; empty for the one that the run is of."""
    params: TestParams | None = None
    """None for those of the run's recipe."""
    checkpoint: str = LAST
    device: str = "cpu"
    sampling: Sampling | None = None
    """Sampling strategy; None for the run's."""


@dataclass(frozen=True)
class Tested:
    """Scores of the videos of a split."""

    video_ids: tuple[str, ...]
    scores: NDArray[np.float64]
    """(N, C), before any softmax."""
    facts: RunFacts
    pooling: Pooling


def test(job: TestJob, progress: Callable[[int, int], None]) -> Tested:
    """Scores of all videos of a split that have images.

    ``dense``: the mean over crops, then over the snippets, of what the network says before softmax.
    ``mtwi``: snippets at a rate by time, see `mtwi`.

    Raises
    ------
    UsageError
        If the store lacks the modality, the split or the classes.
    """
    if job.device == "cpu":
        keep_freed_memory()
    network, store = Network(job.run, job.checkpoint, job.device), open_store(job.store)
    facts, params = network.facts, job.params or network.facts.test
    if job.sampling:
        facts = replace(facts, stream=replace(facts.stream, sampling=job.sampling))
    if store.header.class_names != facts.class_names:
        raise UsageError(
            f"{job.store} has other classes ({len(store.header.class_names)}) than {job.run} was "
            f"trained for ({len(facts.class_names)})"
        )
    if facts.stored not in store.modalities:
        raise UsageError(f"{job.store} has no {facts.stored}, which {job.run} looks at")
    split = job.split or f"test{facts.split}"
    videos = [
        video_id
        for video_id, video in store.videos.items()
        if (split == ALL or split in video.splits) and video.images[facts.stored] > 0
    ]
    if not videos:
        raise UsageError(f"{job.store} has no videos of split {split}")
    rule, crops = RULES[facts.stream.sampling], int(params.crops)
    wanted = ((key, starts_of(network, store, key, params, rule)) for key in videos)
    pooling = Pooling(params, facts.stream, network.model.consensus)
    scores = []
    for scored in network.score_videos(store, wanted, crops, rule.tail):
        scores.append(pooling(scored))
        progress(len(scores), len(videos))
    return Tested(tuple(videos), np.stack(scores), replace(facts, test=params), pooling)


def starts_of(
    network: Network, store: Store, video_id: str, params: TestParams, rule: Rule
) -> NDArray[np.int64]:
    """Return the first image of each snippet of a video, (S,).

    ``dense``: `params.snippets` of them, evenly; ``mtwi``: at a rate by time.
    """
    count = store.videos[video_id].images[network.input.stored]
    if params.protocol == "dense":
        return rule.test(count, params.snippets, network.input.read)
    return mtwi.starts_at(store.pts_s(video_id)[:count], params.rate_hz)


def snippets_of(
    network: Network, store: Store, video_id: str, params: TestParams, rule: Rule
) -> tuple[NDArray[np.float64], SnippetScores]:
    """Return the start times of the snippets of a video, seconds (S,), and their scores."""
    starts = starts_of(network, store, video_id, params, rule)
    scored = network.snippet_scores(store, video_id, starts, int(params.crops), rule.tail)
    count = store.videos[video_id].images[network.input.stored]
    return store.pts_s(video_id)[np.clip(starts, 0, count - 1)], scored
