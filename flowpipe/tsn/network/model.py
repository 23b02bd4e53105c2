"""Backbone + consensus -> TSN: the network and its parameter groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from flowpipe.errors import UsageError
from flowpipe.tsn.network.backbones import BackboneRow
from flowpipe.tsn.network.consensus import CONSENSUS
from flowpipe.tsn.recipe import ScheduleParams, StreamParams

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Multiplier:
    """Multipliers of the learning rate and the weight decay of a kind of weights."""

    lr: float
    decay: float


FIRST_WEIGHT, FIRST_BIAS = Multiplier(1, 1), Multiplier(2, 0)
FLOW_FIRST_WEIGHT, FLOW_FIRST_BIAS = Multiplier(5, 1), Multiplier(10, 0)
WEIGHT, BIAS, NORM = Multiplier(1, 1), Multiplier(2, 0), Multiplier(1, 0)


class TSN(nn.Module):
    """Temporal segment network: snippets of videos -> logits.

    Modules have tsn-pytorch's names: ``base_model`` and ``new_fc``.

    Parameters
    ----------
    backbone : Module
        (N, 3, H, W) -> (N, features). Its first layer is replaced if it takes another number of
        channels.
    features : int
        Features of the backbone, D.
    classes : int
        Number of classes.
    channels : int
        Channels of a snippet: 3 for rgb, 2 L for flow, 3 L for differences.
    segments : int
        Segments in training, K; a test may have another number.
    consensus : str
        A key of `CONSENSUS`.
    top_k : int
        Snippets that the consensus ``top_k`` averages.
    dropout : float
        Dropout of the features of each snippet.
    partial_bn : bool
        Freeze statistics, scales and shifts of all batch normalisation but the first.
    mean_over_colours : bool
        Initialise a replaced first layer with the mean over the colours (cross-modality
        initialisation); otherwise its weights are random.
    classifier_std : float
        Standard deviation of the classifier's initial weights.
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        classes: int,
        *,
        channels: int = 3,
        segments: int = 3,
        consensus: str = "average",
        top_k: int = 3,
        dropout: float = 0.8,
        partial_bn: bool = True,
        mean_over_colours: bool = True,
        classifier_std: float = 0.001,
    ) -> None:
        super().__init__()
        self.base_model, self.channels, self.partial_bn = backbone, channels, partial_bn
        adapt_first_conv(backbone, channels, mean_over_colours)
        self.dropout = nn.Dropout(dropout)
        self.new_fc = nn.Linear(features, classes)
        nn.init.normal_(self.new_fc.weight, 0, classifier_std)
        nn.init.zeros_(self.new_fc.bias)
        # feature_average averages before the classifier, all others after it.
        self.of_features = consensus == "feature_average"
        self.consensus = CONSENSUS[consensus](segments, features, top_k)
        self.to(memory_format=torch.channels_last)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of videos.

        Parameters
        ----------
        x : float (B, K, channels, H, W)
            Snippets of B videos.

        Returns
        -------
        float (B, classes)
            Logits after the consensus.
        """
        if self.of_features:
            scores: Tensor = self.new_fc(self.dropout(self._features(x).mean(1)))
        else:
            features, logits = self.snippets(x)
            scores = self.consensus(logits, features)
        return scores

    def snippets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits of each snippet.

        Parameters
        ----------
        x : float (B, K, channels, H, W)
            Snippets of B videos.

        Returns
        -------
        features : float (B, K, D)
            Features before dropout.
        logits : float (B, K, classes)
            Logits.
        """
        features = self._features(x)
        return features, self.new_fc(self.dropout(features))

    def _features(self, x: Tensor) -> Tensor:
        # Channels last is the fast layout of oneDNN and cuDNN.
        images = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.base_model(images).unflatten(0, x.shape[:2])
        return features

    def train(self, mode: bool = True) -> TSN:
        """Set the training mode; frozen batch normalisation stays in evaluation mode.

        Parameters
        ----------
        mode : bool
            True for training, False for evaluation.

        Returns
        -------
        TSN
            The network itself.
        """
        super().train(mode)
        if self.partial_bn:
            for norm in list(norms(self.base_model))[1:]:
                norm.eval()
                for weight in norm.parameters():
                    weight.requires_grad_(False)
        return self

    def groups(self, params: ScheduleParams, *, is_flow: bool) -> list[dict[str, Any]]:
        """Return parameter groups for an optimiser, each with its learning rate and weight decay.

        With `multipliers` ``tsn`` the first layer of a flow network has a higher learning rate,
        and biases have twice the rate and no decay. With ``uniform`` all weights are alike. The
        rate of the classifier is multiplied by `classifier_lr`. Frozen weights are in no group.

        Parameters
        ----------
        params : ScheduleParams
            Learning rate, weight decay and multipliers.
        is_flow : bool
            True for a flow network.

        Returns
        -------
        list of dict
            Groups with ``params``, ``lr``, ``weight_decay`` and ``lr_multiplier``.
        """
        members: dict[Multiplier, list[nn.Parameter]] = {}
        for weight, multiplier in _multipliers(self, is_flow):
            if not weight.requires_grad:
                continue
            if params.multipliers == "uniform":
                multiplier = WEIGHT
            if weight is self.new_fc.weight or weight is self.new_fc.bias:
                multiplier = replace(multiplier, lr=multiplier.lr * params.classifier_lr)
            members.setdefault(multiplier, []).append(weight)
        return [
            {
                "params": weights,
                "lr": params.lr * multiplier.lr,
                "lr_multiplier": multiplier.lr,
                "weight_decay": params.weight_decay * multiplier.decay,
            }
            for multiplier, weights in members.items()
        ]


def norms(module: nn.Module) -> Iterator[nn.Module]:
    """Return the batch normalisation layers in the order of their definition.

    Parameters
    ----------
    module : Module
        Network.

    Returns
    -------
    iterator of Module
        The layers.
    """
    return (m for m in module.modules() if isinstance(m, _NORMS))


def synchronise_batch_norm(model: TSN, device: str) -> TSN:
    """Return the network with torch's SyncBatchNorm in place of batch normalisation.

    Weights and their names stay the same.

    Parameters
    ----------
    model : TSN
        Network.
    device : str
        Device of the network.

    Returns
    -------
    TSN
        The network with other layers.

    Raises
    ------
    UsageError
        If the device is a CPU, which SyncBatchNorm does not support.
    """
    if device == "cpu":
        raise UsageError(
            "sync_bn with several processes needs GPUs, because torch's SyncBatchNorm does not run "
            "on CPUs; set sync_bn to false, or train in one process"
        )
    made: TSN = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return made


def first_conv(module: nn.Module) -> tuple[nn.Module, str, nn.Conv2d]:
    """Find the first convolution of a network.

    Parameters
    ----------
    module : Module
        Network.

    Returns
    -------
    parent : Module
        Module that holds the convolution.
    name : str
        Name of the convolution in it.
    conv : Conv2d
        The convolution.

    Raises
    ------
    ValueError
        If there is none.
    """
    for path, found in module.named_modules():
        if isinstance(found, nn.Conv2d):
            parent, _, name = path.rpartition(".")
            return module.get_submodule(parent), name, found
    raise ValueError(f"{type(module).__name__} has no convolution to take other channels")


def adapt_first_conv(module: nn.Module, channels: int, mean_over_colours: bool) -> None:
    """Give the first convolution this number of input channels; do nothing if it has it.

    With `mean_over_colours` each new channel has the mean of the weights over the old channels, not
    rescaled (cross-modality initialisation). Otherwise the layer has torch's random weights.

    Parameters
    ----------
    module : Module
        Network, which is changed.
    channels : int
        Number of input channels.
    mean_over_colours : bool
        Initialise with the mean over the old channels.
    """
    parent, name, old = first_conv(module)
    if old.in_channels == channels:
        return
    options = (old.kernel_size, old.stride, old.padding, old.dilation, 1, old.bias is not None)
    new = type(old)(channels, old.out_channels, *options)  # type: ignore[arg-type]
    if mean_over_colours:
        new.weight.data.copy_(old.weight.data.mean(1, keepdim=True).expand_as(new.weight))
        if old.bias is not None and new.bias is not None:
            new.bias.data.copy_(old.bias.data)
    setattr(parent, name, new)


def _multipliers(model: TSN, is_flow: bool) -> Iterator[tuple[nn.Parameter, Multiplier]]:
    """Yield each weight once, with its multiplier."""
    first = first_conv(model.base_model)[2]
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            bias = name == "bias"
            if module is first and is_flow:
                yield weight, FLOW_FIRST_BIAS if bias else FLOW_FIRST_WEIGHT
            elif module is first:
                yield weight, FIRST_BIAS if bias else FIRST_WEIGHT
            elif isinstance(module, _NORMS) or (weight.dim() <= 1 and not bias):
                yield weight, NORM if module is not model.consensus else WEIGHT
            else:
                yield weight, BIAS if bias else WEIGHT


def make_model(
    backbone: nn.Module, row: BackboneRow, classes: int, channels: int, stream: StreamParams
) -> TSN:
    """Make the network that a stream of a recipe describes.

    Parameters
    ----------
    backbone : Module
        (N, 3, H, W) -> (N, features).
    row : BackboneRow
        Row of the backbone.
    classes : int
        Number of classes.
    channels : int
        Channels of a snippet.
    stream : StreamParams
        Stream of the recipe.

    Returns
    -------
    TSN
        The network.
    """
    return TSN(
        backbone,
        row.features,
        classes,
        channels=channels,
        segments=stream.segments,
        consensus=stream.consensus,
        top_k=stream.top_k,
        dropout=stream.dropout,
        partial_bn=stream.partial_bn,
        mean_over_colours=stream.init == "cross_modality",
        classifier_std=stream.classifier_std,
    )


def freezes_random_statistics(model: TSN, stream: StreamParams) -> bool:
    """Return whether batch normalisation is frozen with initial statistics, which fit no data.

    Activations then grow with each layer: the loss of BN-Inception is in the millions.

    Parameters
    ----------
    model : TSN
        Network.
    stream : StreamParams
        Stream of the recipe.

    Returns
    -------
    bool
        True if the network cannot learn.
    """
    frozen = stream.partial_bn and any(True for _ in islice(norms(model.base_model), 1, None))
    return stream.init == "random" and frozen
