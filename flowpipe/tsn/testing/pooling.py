"""Scores of the crops and snippets of a video -> its scores, by the consensus of the training."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flowpipe.errors import UsageError
from flowpipe.tsn.network.consensus import CONSENSUS, Attention
from flowpipe.tsn.recipe import StreamParams, TestParams
from flowpipe.tsn.testing import mtwi
from flowpipe.tsn.testing.scorer import SnippetScores

_LEARNED = ("linear", "attention")
"""Consensus functions with learned weights."""


class Pooling:
    """Pooling of the scores of crops and snippets to those of a video, for tests and predictions.

    Parameters
    ----------
    params : TestParams
        Settings of the test.
    stream : StreamParams
        The stream that the network was trained as.
    trained : Module
        Consensus module of the trained network.

    Raises
    ------
    UsageError
        If the consensus has weights and the network was not trained with it.
    """

    def __init__(self, params: TestParams, stream: StreamParams, trained: nn.Module) -> None:
        self.params, self._trained = params, copy.deepcopy(trained).cpu().double().eval()
        self.consensus = consensus_of(params, stream)
        if self.consensus in _LEARNED and self.consensus != stream.consensus:
            raise UsageError(
                f"consensus {self.consensus} has learned weights, and the run was trained with "
                f"{stream.consensus}; choose average, max or top_k, or leave --consensus out"
            )
        dense_k = params.top_k or stream.top_k
        self.top_k = params.top_k if params.protocol == "mtwi" else dense_k
        self._trained_with = _name(stream.consensus)
        self.as_trained = self.consensus == self._trained_with
        if self.consensus in _LEARNED:
            self._of_snippets = self._trained
        else:
            self._of_snippets = CONSENSUS[self.consensus](stream.segments, 0, dense_k)

    def __call__(self, scored: SnippetScores) -> NDArray[np.float64]:
        """Return the scores of a video, (C,): crops are pooled first, then snippets."""
        scores = getattr(scored.scores, self._pooling_of_crops)(1, keepdims=True)
        if self.params.protocol == "mtwi":
            return mtwi.aggregate(
                scores, self.params.windows, self.params.mtwi, consensus=self.consensus,  # type: ignore[arg-type]
                top_k=self.top_k, relevance=self._relevance(scored),
            )  # fmt: skip
        with torch.inference_mode():
            pooled = self._of_snippets(
                torch.from_numpy(scores[None, :, 0]), torch.from_numpy(scored.features)[None]
            )
        made: NDArray[np.float64] = pooled[0].numpy()
        return made

    def facts(self) -> dict[str, Any]:
        """Return the entry ``consensus`` of a file of scores; see `write_scores`."""
        of = "windows" if self.params.protocol == "mtwi" else "snippets"
        facts: dict[str, Any] = {"name": self.consensus, "of": of}
        facts |= {"trained": self.as_trained, "of_crops": self._pooling_of_crops}
        return facts | ({"top_k": self.top_k or "max(15, N/4)"} if self._is_top_k else {})

    def describe(self) -> str:
        """Return the pooling as text for the console."""
        facts = self.facts()
        best = (
            f" of the {self.top_k} highest"
            if self.top_k
            else " of the highest quarter, 15 at least"
        )
        origin = "as trained" if self.as_trained else f"trained with {self._trained_with}"
        by = f", M-TWI {self.params.mtwi}" if self.params.protocol == "mtwi" else ""
        return (
            f"{facts['of_crops']} of crops, then {facts['of']} by {self.consensus}"
            f"{best if self._is_top_k else ''} ({origin}){by}"
        )

    @property
    def _is_top_k(self) -> bool:
        return self.consensus == "top_k"

    @property
    def _pooling_of_crops(self) -> str:
        if self.params.of_crops != "auto":
            return self.params.of_crops
        return "max" if (self.params.protocol, self.params.mtwi) == ("mtwi", "code") else "mean"

    def _relevance(self, scored: SnippetScores) -> NDArray[np.float64] | None:
        """Return the relevance of each snippet, (S,), if the network was trained with attention."""
        if not isinstance(self._trained, Attention):
            return None
        with torch.inference_mode():
            found: NDArray[np.float64] = self._trained.relevance(
                torch.from_numpy(scored.features)
            ).numpy()
        return found


def consensus_of(params: TestParams, stream: StreamParams) -> str:
    """Return the name of the consensus with which a test combines snippets, or windows of M-TWI.

    ``trained`` is that of the training, as in the paper. M-TWI takes top-k, the paper's and the
    authors' choice, unless attention was trained.

    Parameters
    ----------
    params : TestParams
        Settings of the test.
    stream : StreamParams
        The stream that the network was trained as.

    Returns
    -------
    str
        Name of the consensus.
    """
    if params.consensus != "trained":
        return params.consensus
    if params.protocol == "mtwi":
        return "attention" if stream.consensus == "attention" else "top_k"
    return _name(stream.consensus)


def _name(consensus: str) -> str:
    """Return ``average`` for ``feature_average``: without dropout they are equal."""
    return "average" if consensus == "feature_average" else consensus
