"""``torchvision:NAME`` + file of weights -> a video network of torchvision as a frozen extractor.

Frames are resized, cropped and normalised as the metadata of the weights say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowpipe.errors import BackendError, FormatError, UsageError
from flowpipe.features import Windows
from flowpipe.tsn.features.layers import GLOBAL_POOL, LayerOutput
from flowpipe.tsn.testing.scorer import weights_digest
from flowpipe.tsn.weights.files import find_misfit, read_weights
from flowpipe.words import unknown_name

PREFIX = "torchvision:"


@dataclass(frozen=True)
class _Row:
    """Facts of a network that torchvision's metadata lack."""

    frames: int
    """Frames of the clips on which its weights were evaluated."""
    least: int
    """Frames of the shortest clip that it accepts."""
    classifier: str
    """Name of the module that turns pooled features into scores."""
    channels_last: bool = False
    """True if its layers return (N, T, H, W, C)."""


_RESNET = _Row(16, 1, "fc")
_MVIT = _Row(16, 16, "head")
_SWIN = _Row(32, 1, "head", True)
VIDEO_NETWORKS = {
    "r3d_18": _RESNET, "mc3_18": _RESNET, "r2plus1d_18": _RESNET,
    "s3d": _Row(128, 14, "classifier"), "mvit_v1_b": _MVIT, "mvit_v2_s": _MVIT,
    "swin3d_t": _SWIN, "swin3d_s": _SWIN, "swin3d_b": _SWIN,
}  # fmt: skip
"""torchvision's video networks."""


class VideoNetwork:
    """Video network of torchvision, as a `FeatureNetwork`.

    A row reads frames that are evenly spaced over its window.

    Parameters
    ----------
    name : str
        A key of `VIDEO_NETWORKS`.
    weights : Path
        File of its weights, a state dict with torchvision's names.
    device : str
        Device that computes.
    amp : str
        Key of `AMP`; it is recorded in `facts`.
    layer : str
        Layer whose output is the features.
    window : int
        Frames of a window. If it is shorter than the clips of the weights' evaluation, a row reads
        the whole window.

    Raises
    ------
    UsageError
        If the name or the layer is unknown, or the window is too short.
    FormatError
        If the file does not hold weights of this network.
    BackendError
        If torchvision is not installed.
    """

    stored = "rgb"

    def __init__(
        self, name: str, weights: Path, device: str, amp: str, *, layer: str, window: int
    ) -> None:
        row = _find_row(name)
        if window < row.least:
            raise UsageError(
                f"a window of {window} frames is shorter than the {row.least} frames that {name} "
                "takes; choose a longer --window"
            )
        self.name, self.frames, self._weights = name, min(row.frames, window), weights
        self._amp, self._layer_name = amp, layer
        published = _find_metadata(name, weights)
        self._transforms, categories = published.transforms(), published.meta["categories"]
        values = read_weights(weights)
        self.model, self._classifier = _build(name, row, values, weights)
        self.digest = weights_digest(self.model)
        self.model.to(device).eval()
        self.pooled = LayerInput(self._classifier)
        self._layer: LayerOutput | None = None
        if layer != GLOBAL_POOL:
            self._layer = LayerOutput(self.model, layer, row.channels_last)
        count = _classes(self._classifier)
        own = [f"class {k}" for k in range(count)]
        self.class_names = tuple(categories if len(categories) == count else own)

    @property
    def facts(self) -> dict[str, Any]:
        """JSON values that describe the network and determine its rows."""
        return {
            "network": f"{PREFIX}{self.name.partition('-')[0]}", "digest": self.digest,
            "checkpoint": self._weights.name, "modality": self.stored, "stored": self.stored,
            "layer": self._layer_name, "frames": self.frames, "amp": self._amp,
            "loss": "cross_entropy", "weight": 1.0, "transforms": self._describe_transforms(),
        }  # fmt: skip

    def describe_other_images(self, recipe: Mapping[str, Any]) -> str:
        """Return an empty text: the network was trained on no store.

        Parameters
        ----------
        recipe : mapping
            Extraction recipe of the store.

        Returns
        -------
        str
            Empty.
        """
        return ""

    def images_of_rows(self, windows: Windows, centres_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the frames of each row, evenly spaced over its window."""
        lengths = windows.stop_frame - windows.start_frame
        places = (np.arange(self.frames) + 0.5) / self.frames
        numbers = windows.start_frame[:, None] + np.floor(lengths[:, None] * places + 1e-9)
        return np.minimum(numbers.astype(np.int64), len(centres_s) - 1)

    def inputs(
        self, images: Tensor, index: NDArray[np.int64], crops: int, at_once: int
    ) -> Iterator[Tensor]:
        """Yield the crops of some rows, (R, at_once or fewer, 3, T, H, W)."""
        from torchvision.transforms import functional

        rule = self._transforms
        side, rows = rule.crop_size, torch.from_numpy(index).to(images.device)
        images = functional.resize(
            images, rule.resize_size, interpolation=rule.interpolation, antialias=False
        )
        cut: tuple[Tensor, ...] = (functional.center_crop(images, side),)
        if crops > 1:
            cut = (functional.five_crop if crops == 5 else functional.ten_crop)(images, side)
        for first in range(0, crops, at_once):
            clips = [
                functional.normalize(
                    functional.convert_image_dtype(one, torch.float), rule.mean, rule.std
                )[rows]
                for one in cut[first : first + at_once]
            ]
            yield torch.stack(clips, 1).transpose(2, 3)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and scores (N, C) of inputs (N, 3, T, H, W)."""
        scores: Tensor = self.model(x)
        pooled = self.pooled.take()
        return self._layer.take() if self._layer else pooled, scores

    def _describe_transforms(self) -> dict[str, Any]:
        rule = self._transforms
        return {
            "resize": list(rule.resize_size), "crop": list(rule.crop_size),
            "interpolation": rule.interpolation.value,
            "mean": list(rule.mean), "std": list(rule.std),
        }  # fmt: skip


class LayerInput:
    """Keeps the input of the classifier of a network, averaged over time and space.

    Parameters
    ----------
    classifier : Module
        Classifier of a network.
    """

    def __init__(self, classifier: nn.Module) -> None:
        self._value: Tensor | None = None
        classifier.register_forward_pre_hook(self._keep)

    def take(self) -> Tensor:
        """Return the input in the last forward pass, (N, D)."""
        value, self._value = self._value, None
        assert value is not None
        return value

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._value = inputs[0].flatten(2).mean(2) if inputs[0].dim() > 2 else inputs[0].clone()


def default_window(name: str) -> int:
    """Return the length of the clips on which the weights of a network were evaluated.

    Parameters
    ----------
    name : str
        A key of `VIDEO_NETWORKS`.

    Returns
    -------
    int
        Frames.
    """
    return _find_row(name).frames


def missing_weights_error(name: str) -> UsageError:
    """Return the error of a network without weights.

    Parameters
    ----------
    name : str
        A key of `VIDEO_NETWORKS`.

    Returns
    -------
    UsageError
        It names the URL of torchvision's file.
    """
    _find_row(name)
    url = _enumeration(name).DEFAULT.url
    return UsageError(
        f"{PREFIX}{name} needs the file of its weights: fetch {url} and give its path with "
        "--weights FILE, once for each network of torchvision in their order"
    )


def _find_row(name: str) -> _Row:
    if name not in VIDEO_NETWORKS:
        raise UsageError(unknown_name("video network of torchvision", name, VIDEO_NETWORKS))
    return VIDEO_NETWORKS[name]


def _enumeration(name: str) -> Any:
    try:
        from torchvision.models import get_model_weights
    except ImportError as error:
        raise BackendError(f"{PREFIX}{name} needs torchvision; pip install torchvision") from error
    return get_model_weights(name)


def _find_metadata(name: str, weights: Path) -> Any:
    """Return the metadata of the weights: those with the file's name, or else the default ones."""
    entries = _enumeration(name)
    return next((w for w in entries if w.url.endswith(f"/{weights.name}")), entries.DEFAULT)


def _build(
    name: str, row: _Row, values: Mapping[str, Tensor], weights: Path
) -> tuple[nn.Module, nn.Module]:
    """Return the network with its weights, and its classifier."""
    from torchvision.models import get_model

    last = [value for key, value in values.items() if key.startswith(f"{row.classifier}.")]
    classes = len(last[-1]) if last else 400
    network: nn.Module = get_model(name, weights=None, num_classes=classes)
    if wrong := find_misfit(network.state_dict(), values):
        raise FormatError(f"{weights} does not hold weights of torchvision's {name}: {wrong}")
    network.load_state_dict(dict(values), strict=False)
    return network, network.get_submodule(row.classifier)


def _classes(classifier: nn.Module) -> int:
    *_, last = classifier.parameters()
    return len(last)
