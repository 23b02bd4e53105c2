"""A video in a store + trained runs -> its classes, and its time line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.evaluation import sigmoid, softmax
from flowpipe.store import open_store
from flowpipe.tsn.data.lacking import explain_without_images
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES
from flowpipe.tsn.device import keep_freed_memory
from flowpipe.tsn.recipe import TestParams
from flowpipe.tsn.run_folder import RunFacts
from flowpipe.tsn.testing.pooling import Pooling
from flowpipe.tsn.testing.scorer import SnippetScorer
from flowpipe.tsn.testing.test import snippets_of

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FusedRun:
    """Run, store and weight of one network of a prediction."""

    run: Path
    store: Path
    """Store that has the video, extracted as the run's own videos were."""
    weight: float
    """Weight of its scores in the sum."""
    params: TestParams


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Classes of a video, fused over all networks."""

    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    """(C,), the softmax of the weighted sum of scores; the sigmoid if all networks were trained
    class by class (``bce``)."""
    of_runs: tuple[NDArray[np.float64], ...]
    """Probabilities by each network alone, (C,)."""
    times_s: NDArray[np.float64]
    """Start times of the snippets, seconds, (S,)."""
    by_snippet: NDArray[np.float64]
    """Probabilities of each snippet, (S, C)."""
    end_s: float
    """Time of the video's last image, seconds."""

    def top(self, count: int) -> list[int]:
        """Return the most probable classes.

        Parameters
        ----------
        count : int
            Number of classes.

        Returns
        -------
        list of int
            Classes, the most probable first.
        """
        order: list[int] = np.argsort(-self.probabilities, kind="stable")[:count].tolist()
        return order


@dataclass(frozen=True)
class PredictedInterval:
    """Consecutive snippets with the same most likely class."""

    start_s: float
    end_s: float
    label: int | None
    """Class; None if no class is likely enough."""
    probability: float
    """Mean over the snippets of the highest class probability."""


def same_classes(runs: Sequence[Path]) -> list[RunFacts]:
    """Check that runs have the same classes.

    Parameters
    ----------
    runs : sequence of Path
        Folders of the runs.

    Returns
    -------
    list of RunFacts
        Facts of each run.

    Raises
    ------
    UsageError
        If the classes differ.
    """
    facts = [RunFacts.read(run) for run in runs]
    check_same_classes(runs, facts)
    return facts


def check_same_classes(runs: Sequence[Path], facts: Sequence[RunFacts]) -> None:
    """Check that runs whose facts are known have the same classes.

    Parameters
    ----------
    runs : sequence of Path
        Folders of the runs.
    facts : sequence of RunFacts
        Facts of each run.

    Raises
    ------
    UsageError
        If the classes differ.
    """
    for run, one in zip(runs, facts, strict=True):
        if one.class_names != facts[0].class_names:
            raise UsageError(
                f"{run} knows other classes ({len(one.class_names)}) than {runs[0]} "
                f"({len(facts[0].class_names)}): their scores cannot be added"
            )


def choose_link(facts: Sequence[RunFacts]) -> Callable[[FloatArray], FloatArray]:
    """Return the function that turns added scores of runs into probabilities.

    Parameters
    ----------
    facts : sequence of RunFacts
        Facts of each run.

    Returns
    -------
    callable
        The sigmoid if all runs were trained class by class (``bce``), else the softmax.
    """
    by_class = all(one.stream.loss.name == "bce" for one in facts)
    return sigmoid if by_class else softmax


def predict(
    video_id: str,
    fused_runs: Sequence[FusedRun],
    device: str,
    checkpoint: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prediction:
    """Classify one video of a store, or of several that have it.

    Parameters
    ----------
    video_id : str
        Id of the video.
    fused_runs : sequence of FusedRun
        Runs whose probabilities are fused, with weights and stores.
    device : str
        Device that computes.
    checkpoint : str
        Name of the checkpoint of each run.
    progress : callable
        Called with the numbers of finished and of all networks.

    Returns
    -------
    Prediction
        Probabilities of the video and of its snippets.

    Raises
    ------
    UsageError
        If the runs know different classes, or the video has no image that one of them reads.
    """
    if device == "cpu":
        keep_freed_memory()
    facts = same_classes([one.run for one in fused_runs])
    totals, timed, ends = [], [], []
    of_sound: list[bool] = []
    for number, one in enumerate(fused_runs):
        progress(number, len(fused_runs))
        network, store = SnippetScorer(one.run, checkpoint, device), open_store(one.store)
        if not (video := store.videos[video_id]).images[network.input.stored]:
            raise UsageError(
                f"{video.record.path} has no image of {network.input.stored}, which {one.run} "
                f"reads: {explain_without_images(video, network.input.stored)}"
                f"{'; leave that run out' if len(fused_runs) > 1 else ''}"
            )
        pooling = Pooling(one.params, network.facts.stream, network.model.consensus)
        rule = SAMPLING_STRATEGIES[network.facts.stream.sampling]
        times_s, scored = snippets_of(network, store, video_id, one.params, rule)
        totals.append(pooling(scored))
        by_time = np.argsort(times_s, kind="stable")  # ranges of dense sampling overlap
        timed.append((times_s[by_time], one.weight * scored.scores.mean(1)[by_time]))
        of_sound.append(network.input.is_whole)
        ends.append(float(store.pts_s(video_id)[-1]))
    grid_s = timed[of_sound.index(False) if False in of_sound else 0][0]
    timed = [
        _at_times(grid_s, *one) if heard and one[0] is not grid_s else one
        for one, heard in zip(timed, of_sound, strict=True)
    ]
    # Streams may differ by an image and so, at a rate, by a snippet at the end.
    count = min(len(times_s) for times_s, _ in timed)
    likely = choose_link(facts)
    return Prediction(
        class_names=facts[0].class_names,
        probabilities=likely(
            np.sum([k.weight * own for k, own in zip(fused_runs, totals, strict=True)], axis=0)
        ),
        of_runs=tuple(map(likely, totals)),
        times_s=grid_s[:count],
        by_snippet=likely(np.sum([scores[:count] for _, scores in timed], axis=0)),
        end_s=max(ends),
    )


def _at_times(
    grid_s: FloatArray, times_s: FloatArray, scores: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the scores of the snippets of sound that begin last before other times, seconds."""
    return grid_s, scores[(np.searchsorted(times_s, grid_s, "right") - 1).clip(0)]


def time_line(prediction: Prediction, least: float) -> list[PredictedInterval]:
    """Join consecutive snippets with the same most likely class.

    Parameters
    ----------
    prediction : Prediction
        Probabilities of the snippets.
    least : float
        Snippets whose highest probability is lower have no class.

    Returns
    -------
    list of PredictedInterval
        Intervals in the order of time.
    """
    times_s, by_snippet = prediction.times_s, prediction.by_snippet
    ends_s = np.append(times_s[1:], max(prediction.end_s, times_s[-1]))
    best = by_snippet.argmax(1)
    likely = by_snippet.max(1)
    said = [int(k) if p >= least else None for k, p in zip(best, likely, strict=True)]
    found, first = [], 0
    for k in range(1, len(said) + 1):
        if k == len(said) or said[k] != said[first]:
            probability = float(likely[first:k].mean())
            found.append(
                PredictedInterval(
                    float(times_s[first]), float(ends_s[k - 1]), said[first], probability
                )
            )
            first = k
    return found
