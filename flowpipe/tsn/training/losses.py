"""Logits + targets of videos -> loss and number of correct videos.

Targets are class numbers, int64 (B,), or class weights, float (B, C), for videos with several
labels and for mixup.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from flowpipe.tsn.recipe import LossParams


def targets_of(labels: Tensor, classes: int, *, as_weights: bool) -> Tensor:
    """Return the targets of some videos.

    Parameters
    ----------
    labels : int64 (B, most labels of a video)
        Labels, padded with -1.
    classes : int
        Number of classes.
    as_weights : bool
        Return class weights, which ``bce`` and mixup need.

    Returns
    -------
    int64 (B,) or float32 (B, classes)
        Class of each video, or 1 for each of its labels.
    """
    if not as_weights:
        return labels[:, 0]
    # Padding, -1, goes into an extra column that is cut off.
    weights = torch.zeros(len(labels), classes + 1, device=labels.device)
    return weights.scatter_(1, labels % (classes + 1), 1.0)[:, :classes]


def loss_of(logits: Tensor, targets: Tensor, params: LossParams) -> Tensor:
    """Return the sum of the losses of some videos.

    Parameters
    ----------
    logits : float (B, C)
        Logits.
    targets : int64 (B,) or float (B, C)
        ``bce`` needs class weights.
    params : LossParams
        Loss of the recipe.

    Returns
    -------
    float ()
        ``bce`` is summed over the classes, so that the gradient of a logit is as large as with
        ``cross_entropy`` and the same learning rates work.
    """
    if params.name == "bce":
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return functional.cross_entropy(
        logits, targets, reduction="sum", label_smoothing=params.label_smoothing
    )


def hits(logits: Tensor, targets: Tensor, k: int = 1) -> Tensor:
    """Count the videos with a label among their highest classes.

    A mixture of two videos counts with the weights of its labels that are among them.

    Parameters
    ----------
    logits : float (B, C)
        Logits.
    targets : int64 (B,) or float (B, C)
        Targets, see `targets_of`.
    k : int
        Number of classes that count.

    Returns
    -------
    Tensor ()
        The count.
    """
    highest = logits.topk(min(k, logits.shape[1]), 1).indices if k > 1 else logits.argmax(1, True)
    if targets.dim() == 1:
        return (highest == targets[:, None]).any(1).sum()
    return targets.gather(1, highest).sum(1).clamp(max=1).sum()
