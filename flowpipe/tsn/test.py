"""Store + trained run -> scores of every test video: many snippets, many crops, one mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.evaluation.truth import ALL
from flowpipe.store import Store, open_store
from flowpipe.train_recipe import Sampling, TestParams
from flowpipe.tsn import mtwi
from flowpipe.tsn.backbones import build
from flowpipe.tsn.device import keep_freed_memory
from flowpipe.tsn.feed import crops_of_snippets
from flowpipe.tsn.inputs import Input
from flowpipe.tsn.model import TSN, make_model
from flowpipe.tsn.reading import Wanted, read_images
from flowpipe.tsn.run_folder import LAST, RunFacts, read_checkpoint
from flowpipe.tsn.sampling import RULES, Rule, images_of

_AT_ONCE = 50
"""Crops of snippets that go through the network together."""


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


class Network:
    """A trained network ready to look at videos."""

    def __init__(self, run: Path, checkpoint: str, device: str) -> None:
        self.facts, self.device = RunFacts.read(run), device
        stream = self.facts.stream
        backbone, self.row = build(stream.backbone, "random", pixels=stream.pixels)
        self.input = Input(self.facts.modality, stream.snippet_length, self.facts.stored)
        # Frozen layers and consensus come with the weights: what they were made from is no matter.
        self.model: TSN = make_model(
            backbone, self.row, len(self.facts.class_names), self.input.channels, stream
        )
        self.model.load_state_dict(read_checkpoint(run / checkpoint)["model"])
        self.model.to(device).eval()

    @torch.inference_mode()
    def snippet_scores(
        self, store: Store, video_id: str, starts: NDArray[np.int64], crops: int, tail: str
    ) -> NDArray[np.float64]:
        """Scores of snippets by crop: float64 (snippets, crops, classes)."""
        video, stored = store.videos[video_id], self.input.stored
        numbers = images_of(starts, self.input.read, video.images[stored], tail)
        wanted = Wanted(store, video_id, video.size[stored], numbers)
        images = read_images(stored, [wanted])[0].to(self.device)
        x = crops_of_snippets(images, crops, self.input, self.row, self.facts.stream).flatten(0, 1)
        scores = torch.cat([self.model.snippets(part[None])[1][0] for part in x.split(_AT_ONCE)])
        made: NDArray[np.float64] = scores.double().cpu().numpy()
        return made.reshape(len(starts), -1, made.shape[1])


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
    scores, rule = [], RULES[facts.stream.sampling]
    for done, video_id in enumerate(videos, 1):
        _, of_snippets = snippets_of(network, store, video_id, params, rule)
        scores.append(aggregate(of_snippets, params))
        progress(done, len(videos))
    return Tested(tuple(videos), np.stack(scores), replace(facts, test=params))


def snippets_of(
    network: Network, store: Store, video_id: str, params: TestParams, rule: Rule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times in seconds (S,) at which the snippets of a video begin, and their scores (S, crops, C).

    ``dense``: as many as are asked for, evenly; ``mtwi``: at a rate by time.
    """
    count = store.videos[video_id].images[network.input.stored]
    pts_s = store.pts_s(video_id)[:count]
    if params.protocol == "dense":
        starts = rule.test(count, params.snippets, network.input.read)
    else:
        starts = mtwi.starts_at(pts_s, params.rate_hz)
    parts = [
        network.snippet_scores(
            store, video_id, starts[k : k + _AT_ONCE], int(params.crops), rule.tail
        )
        for k in range(0, len(starts), _AT_ONCE)
    ]
    return pts_s[np.clip(starts, 0, count - 1)], np.concatenate(parts)


def aggregate(scores: NDArray[np.float64], params: TestParams) -> NDArray[np.float64]:
    """Scores of snippets (S, crops, C) -> those of the video (C,)."""
    if params.of_crops == "max":
        scores = scores.max(1, keepdims=True)
    if params.protocol == "mtwi":
        return mtwi.aggregate(scores, params.windows, params.mtwi)
    dense: NDArray[np.float64] = scores.mean(1).mean(0)
    return dense
