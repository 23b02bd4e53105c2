"""Open file of features + weights -> the mean of the streams' scores, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import UsageError
from flowpipe.features import FeatureFile, StreamFacts
from flowpipe.words import count_noun, list_some

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FusedScores:
    """Weighted mean of the scores of some streams of an open file.

    A video that a stream has left out, such as a silent one, has the mean of the others.
    """

    file: FeatureFile
    streams: tuple[str, ...]
    """Names of the streams."""
    weights: tuple[float, ...]
    """Weight of each stream."""
    class_names: tuple[str, ...]
    """Name of each class, C."""
    by_class: bool
    """True if the networks were trained with binary cross-entropy, each class by itself."""

    def has_rows(self, video_id: str) -> bool:
        """Return whether a stream with a weight above 0 has rows of a video.

        Parameters
        ----------
        video_id : str
            Id of the video.

        Returns
        -------
        bool
            True if the video can be localised.
        """
        return bool(self._weights_of(video_id))

    def _weights_of(self, video_id: str) -> dict[str, float]:
        """Return the weights above 0 of the streams that have rows of a video, by name."""
        return {
            name: weight
            for name, weight in zip(self.streams, self.weights, strict=True)
            if weight > 0 and video_id not in self.file.streams[name].left_out
        }

    def of_video(self, video_id: str) -> FloatArray:
        """Return the weighted mean of the scores of the rows of a video, before any softmax.

        Parameters
        ----------
        video_id : str
            Id of a video of which `has_rows` is true.

        Returns
        -------
        float64 (R, C)
            Scores in the order of time.

        Raises
        ------
        FormatError
            If the file is damaged.
        UsageError
            If a score is not finite.
        """
        weights = self._weights_of(video_id)
        total = sum(
            weight * self.file.scores(name, video_id).astype(np.float64)
            for name, weight in weights.items()
        )
        made = np.asarray(total / sum(weights.values()), np.float64)
        if not np.isfinite(made).all():
            raise UsageError(
                f"{self.file.path}: scores of video {video_id} are not finite; the network "
                "diverged, so train it again and compute the features again"
            )
        return made


def fuse_streams(
    file: FeatureFile, streams: Sequence[str], weights: Sequence[float]
) -> FusedScores:
    """Check that the scores of streams can be averaged.

    Parameters
    ----------
    file : FeatureFile
        Open file of features.
    streams : sequence of str
        Names of streams of the file.
    weights : sequence of float
        Weight of each stream, at least 0; one is above 0.

    Returns
    -------
    FusedScores
        The mean, computed video by video.

    Raises
    ------
    UsageError
        If the streams have different classes or losses.
    """
    facts = [file.streams[name] for name in streams]
    first = facts[0]
    for other in facts[1:]:
        if other.class_names != first.class_names:
            raise UsageError(
                f"{file.path}: {first.name} has {_describe(first)}, {other.name} has "
                f"{_describe(other)}; choose streams of the same classes with --streams"
            )
        if other.by_class != first.by_class:
            raise UsageError(
                f"{file.path}: {first.name} and {other.name} were trained with different losses; "
                "choose streams of one loss with --streams"
            )
    return FusedScores(file, tuple(streams), tuple(weights), first.class_names, first.by_class)


def _describe(stream: StreamFacts) -> str:
    names = stream.class_names
    return f"{count_noun(len(names), 'class', 'classes')}, {list_some(names, 2)}"
