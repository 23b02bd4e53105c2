"""Frames as they come + trained runs -> class probabilities of the last seconds.

    frames   0 1 2 3 4 5 6 7 8 9 ...
    snippets ^---^     ^---^             one begins at every 1 / rate seconds
    scored         *         *           once all its frames are there
    window   the last snippets           their scores are pooled as in a test

Every snippet is scored once, so the cost of a second of video does not depend on the window. Only
the frames of unfinished snippets and the scores of the window are kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.errors import UsageError
from flowpipe.modality import MODALITIES, Modality
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES
from flowpipe.tsn.recipe import TestParams
from flowpipe.tsn.testing.pooling import Pooling
from flowpipe.tsn.testing.predict import check_same_classes, choose_link
from flowpipe.tsn.testing.scorer import SnippetScorer, SnippetScores

_EARLY_S = 1e-9
"""A frame this much before the time of a snippet still begins it, as in `mtwi.starts_at`."""


@dataclass(frozen=True)
class LivePrediction:
    """Class probabilities after a snippet."""

    time_s: float
    """Time of the snippet's first frame."""
    end_s: float
    """Time of the newest frame."""
    probabilities: NDArray[np.float64]
    """Probabilities of the window, fused over all networks, float64 (C,)."""
    snippet: NDArray[np.float64]
    """Probabilities of this snippet alone, float64 (C,)."""


@dataclass
class _Stream:
    """One network and the scores of its window."""

    network: SnippetScorer
    weight: float
    pooling: Pooling
    window: deque[SnippetScores]
    seconds: float = 0.0
    """Time in the network so far."""

    @property
    def frames(self) -> int:
        """Frames that a snippet needs."""
        input = self.network.input
        return input.read + MODALITIES[input.stored].context


class LiveClassifier:
    """Classifies a video while its frames come; RGB and RGB differences only.

    Parameters
    ----------
    networks : sequence of SnippetScorer
        Networks of RGB or its differences.
    weights : sequence of float
        Weight of each network's scores in the sum.
    rate_hz : float
        Snippets per second.
    window_s : float
        Seconds whose snippets are pooled.
    params : TestParams, optional
        Crops of a snippet and how their scores are pooled; by default each run's, with one crop.

    Raises
    ------
    UsageError
        If a network reads flow, or the networks know different classes.
    """

    def __init__(
        self,
        networks: Sequence[SnippetScorer],
        weights: Sequence[float],
        *,
        rate_hz: float = 2.0,
        window_s: float = 4.0,
        params: TestParams | None = None,
    ) -> None:
        self.rate_hz = rate_hz
        count = max(1, round(rate_hz * window_s))
        check_same_classes([one.run for one in networks], [one.facts for one in networks])
        self._streams = []
        for network, weight in zip(networks, weights, strict=True):
            _check_modality(network)
            used = params or replace(network.facts.test, crops="1")
            used = replace(used, protocol="dense", snippets=count)
            pooling = Pooling(used, network.facts.stream, network.model.consensus)
            self._streams.append(_Stream(network, weight, pooling, deque(maxlen=count)))
        self.class_names = networks[0].facts.class_names
        self._likely = choose_link([one.facts for one in networks])
        self._frames: deque[tuple[float, Tensor]] = deque()
        self._reach = max(one.frames for one in self._streams)
        self._first: list[Tensor] = []  # a snippet at the end may continue with the first frames
        self._begin_s: float | None = None
        self._snippets = 0  # begun so far, and skipped ones
        self._begun: deque[int] = deque()  # numbers of frames that begin snippets
        self._number = 0  # of the next frame
        self._gone = 0  # frames that are kept no longer

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds in each network so far, by the name of its run."""
        return {one.network.run.name: one.seconds for one in self._streams}

    def restart(self) -> None:
        """Forget unfinished snippets: the next frame does not follow the last one."""
        self._frames.clear()
        self._begun.clear()
        self._gone = self._number

    def add(self, frame: NDArray[np.uint8], time_s: float) -> LivePrediction | None:
        """Add the next frame.

        Parameters
        ----------
        frame : uint8 (H, W, 3)
            RGB, at the size of the store of the runs.
        time_s : float
            Presentation time, seconds.

        Returns
        -------
        LivePrediction or None
            The prediction if this frame completes a snippet.
        """
        image = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))
        if self._begin_s is None:
            self._begin_s = time_s
        due = self._snippets
        while self._begin_s + due / self.rate_hz <= time_s + _EARLY_S:
            due += 1
        if due > self._snippets:  # several if no frame came for long; one snippet begins
            self._begun.append(self._number)
            self._snippets = due
        if len(self._first) < self._reach:
            self._first.append(image)
        self._frames.append((time_s, image))
        self._number += 1
        made = None
        if self._begun and self._begun[0] + self._reach <= self._number:
            made = self._score(self._begun.popleft())
        keep_from = self._begun[0] if self._begun else self._number
        while self._gone < keep_from:
            self._frames.popleft()
            self._gone += 1
        return made

    def end(self) -> list[LivePrediction]:
        """Score the snippets that the end of the video cuts off, continued as in a test."""
        context = max(MODALITIES[one.network.input.stored].context for one in self._streams)
        begun = [number for number in self._begun if number < self._number - context]
        self._begun.clear()
        return [self._score(number) for number in begun]

    def _score(self, number: int) -> LivePrediction:
        """Score the snippet that begins with a frame, and pool the window."""
        frames = list(self._frames)[number - self._gone :]
        scored = []
        for one in self._streams:
            began = time.perf_counter()
            images = self._snippet(one, [image for _, image in frames])
            one.window.append(one.network.score_images(images, int(one.pooling.params.crops)))
            one.seconds += time.perf_counter() - began
            scored.append(one.weight * one.window[-1].scores.mean(1)[0])
        pooled = [
            one.weight * one.pooling(SnippetScores(
                np.concatenate([snippet.scores for snippet in one.window]),
                np.concatenate([snippet.features for snippet in one.window]),
            ))
            for one in self._streams
        ]  # fmt: skip
        likely = self._likely
        return LivePrediction(
            frames[0][0], self._frames[-1][0],
            likely(np.sum(pooled, axis=0)), likely(np.sum(scored, axis=0)),
        )  # fmt: skip

    def _snippet(self, one: _Stream, frames: list[Tensor]) -> Tensor:
        """Return the images of a snippet of a stream, uint8 (read, 3, H, W)."""
        read, stored = one.network.input.read, MODALITIES[one.network.input.stored]
        made = _make_stored(stored, frames[: one.frames])
        if len(made) < read:
            loops = SAMPLING_STRATEGIES[one.network.facts.stream.sampling].tail == "loop"
            more = cycle(_make_stored(stored, self._first)) if loops else repeat(made[-1])
            made += islice(more, read - len(made))
        return torch.stack(made)


def _make_stored(row: Modality, frames: list[Tensor]) -> list[Tensor]:
    """Return the images that a store has of consecutive frames: the frames, or differences."""
    if not row.context:
        return list(frames)
    signed = torch.stack(frames).short()
    return list((signed[1:] - signed[:-1] + (row.zero_level or 0)).clamp_(0, 255).byte())


def _check_modality(network: SnippetScorer) -> None:
    """Raise UsageError if a network cannot be used live."""
    stored = network.facts.stored
    if MODALITIES[stored].is_flow or MODALITIES[stored].from_sound:
        raise UsageError(
            f"{network.run} reads {stored}, which is not computed live; choose runs of rgb and "
            "rgb_diff"
        )
