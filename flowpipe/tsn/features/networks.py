"""Run of flowpipe train -> a network that computes features and scores of windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.errors import UsageError
from flowpipe.features import Windows
from flowpipe.modality import MODALITIES
from flowpipe.params import plain
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES, images_of
from flowpipe.tsn.features.layers import GLOBAL_POOL, LayerOutput
from flowpipe.tsn.network.network_input import crops_of_snippets
from flowpipe.tsn.testing.scorer import SnippetScorer
from flowpipe.tsn.training.learner import AMP


class FeatureNetwork(Protocol):
    """Network that computes one row of features and scores for each window of a video."""

    name: str
    """Name of its stream in the file."""
    stored: str
    """Modality that it reads from the store."""
    frames: int
    """Frames of the video that a row reads; the shortest window that it accepts. 0 for sound."""
    class_names: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """JSON values that describe the network and determine its rows."""

    def describe_other_images(self, recipe: Mapping[str, Any]) -> str:
        """Describe how the recipe of a store differs from that of the network's own; may be empty.

        Parameters
        ----------
        recipe : mapping
            Extraction recipe of the store.

        Returns
        -------
        str
            The settings that differ.
        """

    def images_of_rows(self, windows: Windows, centres_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the images that each row reads.

        Parameters
        ----------
        windows : Windows
            Windows of the R rows.
        centres_s : float64 (N,)
            Middle of the time of each image of the video, seconds; one at least.

        Returns
        -------
        int64 (R, T)
            Numbers of the images.
        """

    def inputs(
        self, images: Tensor, index: NDArray[np.int64], crops: int, at_once: int
    ) -> Iterator[Tensor]:
        """Yield the crops of some rows, a few at a time.

        Parameters
        ----------
        images : uint8 (N, C, H, W)
            Decoded images.
        index : int64 (R, T)
            Images that each row reads.
        crops : {1, 5, 10}
            Crops of a row.
        at_once : int
            Most crops of a row in a tensor.

        Yields
        ------
        float (R, at_once or fewer, ...)
            Input of the network.
        """

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and scores (N, C) of inputs."""


class RunNetwork:
    """Network of a run of flowpipe train, as a `FeatureNetwork`.

    A row is the snippet in the middle of its window. One of sound is the snippet whose middle is
    nearest to that of the window in time.

    Parameters
    ----------
    run : Path
        Folder of the run.
    checkpoint : str
        Name of the file in it.
    device : str
        Device that computes.
    amp : str
        Key of `AMP`: precision of the network's arithmetic.
    layer : str
        Layer of the backbone whose output is the features.

    Raises
    ------
    UsageError
        If the backbone has no such layer.
    """

    def __init__(self, run: Path, checkpoint: str, device: str, amp: str, layer: str) -> None:
        scorer = SnippetScorer(run, checkpoint, device, amp)
        self.scorer, self._run, self._facts = scorer, run, scorer.facts
        self._checkpoint, self._amp = checkpoint, amp
        self.name, self.stored = scorer.facts.modality, scorer.input.stored
        self.frames = scorer.input.read + MODALITIES[self.stored].context
        if scorer.input.is_whole:
            self.frames = 0
        self.class_names = scorer.facts.class_names
        self._layer: LayerOutput | None = None
        if layer != GLOBAL_POOL:
            backbone = scorer.model.base_model
            channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"  # timm's
            self._layer = LayerOutput(backbone, layer, channels_last)

    @property
    def facts(self) -> dict[str, Any]:
        """JSON values that describe the network and determine its rows."""
        facts = self._facts
        return {
            "network": str(self._run), "digest": self.scorer.digest,
            "checkpoint": self._checkpoint, "modality": facts.modality, "stored": self.stored,
            "layer": self._layer.name if self._layer else GLOBAL_POOL, "frames": self.frames,
            "amp": self._amp, "loss": facts.stream.loss.name,
            "weight": facts.fusion.get(facts.modality, 1.0), "run": plain(facts),
        }  # fmt: skip

    def describe_other_images(self, recipe: Mapping[str, Any]) -> str:
        """Describe how a store was extracted otherwise than that of the run.

        Parameters
        ----------
        recipe : mapping
            Extraction recipe of the store.

        Returns
        -------
        str
            The settings that differ; empty if there are none.
        """
        return self._facts.describe_other_images(recipe)

    def images_of_rows(self, windows: Windows, centres_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the images of each row's snippet."""
        images, read = len(centres_s), self.scorer.input.read
        if self.scorer.input.is_whole:
            starts = _nearest(centres_s, read, windows.centre_s)
        else:
            length = windows.stop_frame - windows.start_frame
            starts = np.maximum(0, windows.start_frame + (length - self.frames) // 2)
        tail = SAMPLING_STRATEGIES[self._facts.stream.sampling].tail
        return images_of(starts, read, images, tail)

    def inputs(
        self, images: Tensor, index: NDArray[np.int64], crops: int, at_once: int
    ) -> Iterator[Tensor]:
        """Yield the crops of some rows, (R, at_once or fewer, channels, side, side)."""
        scorer = self.scorer
        yield from crops_of_snippets(
            images[torch.from_numpy(index.reshape(-1)).to(images.device)],
            crops,
            at_once,
            scorer.input,
            row=scorer.row,
            stream=self._facts.stream,
            dtype=AMP[self._amp] or torch.float32,
        )

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and scores (N, C) of inputs (N, channels, side, side)."""
        features, scores = self.scorer.model.snippets(x[None])
        return self._layer.take() if self._layer else features[0], scores[0]


def _nearest(
    centres_s: NDArray[np.float64], read: int, times_s: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the start of the snippet whose middle is nearest to each time, of two the earlier."""
    first = np.arange(max(1, len(centres_s) - read + 1))
    last = np.minimum(first + read - 1, len(centres_s) - 1)
    middle_s = (centres_s[first] + centres_s[last]) / 2
    return np.searchsorted((middle_s[1:] + middle_s[:-1]) / 2, times_s)


def name_streams(networks: list[FeatureNetwork]) -> None:
    """Give the second network of the same name the name ``NAME-2``, and so on.

    Parameters
    ----------
    networks : list of FeatureNetwork
        Networks, whose names are changed.
    """
    count: dict[str, int] = {}
    for network in networks:
        number = count[network.name] = count.get(network.name, 0) + 1
        if number > 1:
            network.name = f"{network.name}-{number}"


def check_window(network: FeatureNetwork, frames: int, what: str) -> None:
    """Raise UsageError if a window is shorter than what a row of the network reads.

    Parameters
    ----------
    network : FeatureNetwork
        Network of the rows.
    frames : int
        Length of the window, frames.
    what : str
        The window, for the message.
    """
    if frames < network.frames:
        raise UsageError(
            f"{what} is shorter than the {network.frames} frames that a row of {network.name} "
            "reads; choose a longer --window"
        )
