"""Scores of K snippets -> scores of the video: the consensus functions of the PAMI paper.

Each module maps logits (B, K, C) and the features (B, K, D) behind them to scores (B, C).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """Average: g = mean of f_k."""

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        return logits.mean(1)


class Max(nn.Module):
    """Maximum: g_i = max_k f_k,i, each class by itself; the gradient goes to one snippet."""

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        best: Tensor = logits.max(1).values
        return best


class TopK(nn.Module):
    """Top-k pooling: g_i = mean of the k largest f_k,i, each class by itself.

    Parameters
    ----------
    k : int
        Snippets that are averaged.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        # A test may have fewer snippets than training.
        return logits.topk(min(self.k, logits.shape[1]), dim=1).values.mean(1)


class Linear(nn.Module):
    """Linear weighting: g = sum of w_k f_k with learned weights, initialised to the average.

    Parameters
    ----------
    segments : int
        Snippets of a video in training, K.
    """

    def __init__(self, segments: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((segments,), 1 / segments))

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        if logits.shape[1] != len(self.weight):
            # Weights belong to the K segments of training; other numbers of snippets are averaged.
            return logits.mean(1) * self.weight.sum()
        return torch.einsum("k,bkc->bc", self.weight, logits)


class Attention(nn.Module):
    """Attention weighting: g = sum of a_k f_k, initialised to the average.

    The weights a are the softmax over the snippets of w . R_k.

    Parameters
    ----------
    features : int
        Length of the features R_k, D.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))

    def relevance(self, features: Tensor) -> Tensor:
        """Return the relevance w . R of snippets, before softmax.

        Parameters
        ----------
        features : float (..., D)
            Features R.

        Returns
        -------
        float (...)
            Relevance of each snippet.
        """
        return features @ self.weight

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        attention = torch.softmax(self.relevance(features), dim=1)
        return torch.einsum("bk,bkc->bc", attention, logits)


CONSENSUS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "average": lambda segments, features, k: Average(),
    "max": lambda segments, features, k: Max(),
    "top_k": lambda segments, features, k: TopK(k),
    "linear": lambda segments, features, k: Linear(segments),
    "attention": lambda segments, features, k: Attention(features),
    "feature_average": lambda segments, features, k: Average(),
}
"""Consensus functions by their names in recipes: (segments, features, k) -> module.

The mean of the features gives the mean of the scores, because the classifier is linear. They differ
in dropout: `flowpipe.tsn.network.model.TSN` applies it after the mean for ``feature_average``.
"""
