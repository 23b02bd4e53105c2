"""Trained run + store -> scores of the snippets of its videos, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowpipe.modality import MODALITIES
from flowpipe.prefetch import prefetch
from flowpipe.store import Store
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.data.reading import SnippetRequest, read_images
from flowpipe.tsn.data.sampling import images_of
from flowpipe.tsn.network.backbones import build
from flowpipe.tsn.network.model import TSN, make_model
from flowpipe.tsn.network.network_input import crops_of_snippets
from flowpipe.tsn.run_folder import RunFacts, read_checkpoint
from flowpipe.tsn.training.learner import AMP

_VIEWS, _VIEWS_ON_CPU = 50, 10
"""Crops of snippets that go through the network together. On a CPU more are no faster."""
PART_BYTES = 32 << 20
"""Most bytes of decoded images that are kept together, unless one snippet has more."""


@dataclass(frozen=True)
class SnippetScores:
    """Scores of the snippets of one video, before softmax."""

    scores: NDArray[np.float64]
    """Logits, float64 (S, crops, C)."""
    features: NDArray[np.float64]
    """Inputs of the classifier, means over the crops, float64 (S, D)."""


class _DecodedSnippets(NamedTuple):
    """Consecutive snippets of one video, decoded."""

    images: Tensor
    """uint8 (S * read, C, H, W) on the CPU."""
    is_last: bool
    """True if the video has no further snippets."""


class SnippetScorer:
    """A trained network that scores snippets.

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

    Attributes
    ----------
    digest : str
        SHA-256 of the weights, hexadecimal.
    """

    def __init__(self, run: Path, checkpoint: str, device: str, amp: str = "off") -> None:
        self.run, self.facts = run, RunFacts.read(run)
        self.device, self._amp = device, AMP[amp]
        self.views = _VIEWS_ON_CPU if device == "cpu" else _VIEWS
        stream = self.facts.stream
        backbone, self.row = build(stream.backbone, "random", stream.pixels, stream.input_size)
        self.input = InputSpec(self.facts.modality, stream.snippet_length, self.facts.stored)
        # The checkpoint has all weights, so the initialisation does not matter.
        self.model: TSN = make_model(
            backbone, self.row, len(self.facts.class_names), self.input.channels, stream
        )
        self.model.load_state_dict(read_checkpoint(run / checkpoint)["model"])
        self.digest = weights_digest(self.model)
        self.model.to(device).eval()

    def compile(self) -> None:
        """Compile the backbone with torch.compile, which happens at its first use."""
        self.model.base_model = torch.compile(self.model.base_model)  # type: ignore[assignment]

    def score_images(self, images: Tensor, crops: int) -> SnippetScores:
        """Score snippets whose images are already decoded.

        Parameters
        ----------
        images : uint8 (S * read, C, H, W)
            Images of all snippets in sequence, on any device.
        crops : {1, 5, 10}

        Returns
        -------
        SnippetScores
            Scores of each snippet and crop.
        """
        scores, features = self._score(images, crops)
        return SnippetScores(scores.numpy(), features.numpy())

    def snippet_scores(
        self, store: Store, video_id: str, starts: NDArray[np.int64], crops: int, tail: str
    ) -> SnippetScores:
        """Score snippets of one video.

        Parameters
        ----------
        store : Store
            Store of the video.
        video_id : str
            Id of the video.
        starts : int64 (S,)
            First image of each snippet.
        crops : {1, 5, 10}
            Crops of each snippet.
        tail : {"repeat", "loop"}
            What follows the last image, see `images_of`.

        Returns
        -------
        SnippetScores
            Scores of each snippet and crop.
        """
        (scored,) = self.score_videos(store, [(video_id, starts)], crops, tail)
        return scored

    def score_videos(
        self,
        store: Store,
        wanted: Iterable[tuple[str, NDArray[np.int64]]],
        crops: int,
        tail: str,
    ) -> Iterator[SnippetScores]:
        """Score snippets of videos, one video after the other.

        A thread decodes the next images, of the same video or of the next one, while the network
        computes.

        Parameters
        ----------
        store : Store
            Store of the videos.
        wanted : iterable of (str, int64 (S,))
            Ids of videos, and the first image of each of their snippets.
        crops : {1, 5, 10}
            Crops of each snippet.
        tail : {"repeat", "loop"}
            What follows the last image, see `images_of`.

        Yields
        ------
        SnippetScores
            Scores of each snippet and crop of one video.
        """
        scores: list[Tensor] = []
        features: list[Tensor] = []
        for part in prefetch(self._decode(store, wanted, tail), depth=1):
            of_part = self._score(part.images, crops)
            scores.append(of_part[0])
            features.append(of_part[1])
            if part.is_last:
                yield SnippetScores(torch.cat(scores).numpy(), torch.cat(features).numpy())
                scores, features = [], []

    def _decode(
        self, store: Store, wanted: Iterable[tuple[str, NDArray[np.int64]]], tail: str
    ) -> Iterator[_DecodedSnippets]:
        stored, read = self.input.stored, self.input.read
        for video_id, starts in wanted:
            video = store.videos[video_id]
            height, width = video.size[stored]
            numbers = images_of(starts, read, video.images[stored], tail)
            snippet_bytes = read * height * width * MODALITIES[stored].channels
            count = min(self.views, max(1, PART_BYTES // snippet_bytes))
            for start in range(0, len(starts), count):
                one = SnippetRequest(
                    store, video_id, video.size[stored], numbers[start : start + count]
                )
                yield _DecodedSnippets(read_images(stored, [one])[0], start + count >= len(starts))

    @torch.inference_mode()
    def _score(self, images: Tensor, crops: int) -> tuple[Tensor, Tensor]:
        """Scores (S, crops, C) and mean features (S, D) of the snippets of a part, float64."""
        images = images.to(self.device)
        # So many crops of each snippet at once that the network has `views` inputs.
        crops = 1 if self.input.is_whole else crops
        at_once = max(1, self.views * self.input.read // len(images))
        scores, features = [], []
        for x in crops_of_snippets(
            images, crops, at_once, self.input, row=self.row, stream=self.facts.stream,
            dtype=self._amp or torch.float32,
        ):  # fmt: skip
            with torch.autocast(images.device.type, self._amp) if self._amp else nullcontext():
                of_views, logits = self.model.snippets(x.flatten(0, 1)[None])
            scores.append(logits[0].double().unflatten(0, x.shape[:2]).cpu())
            features.append(of_views[0].double().unflatten(0, x.shape[:2]).sum(1).cpu())
        return torch.cat(scores, 1), torch.stack(features).sum(0) / crops


def weights_digest(model: nn.Module) -> str:
    """Compute a digest of all weights and statistics, by their names.

    Parameters
    ----------
    model : Module
        Network.

    Returns
    -------
    str
        Hexadecimal SHA-256.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
