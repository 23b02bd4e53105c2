"""Input normalisations: range, mean, deviation and order of the colours that weights expect."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Normalisation:
    """Bytes q become (q * scale - mean) / std.

    Flow has one mean and deviation; differences, whose middle is no change, are only scaled.
    """

    scale: float
    mean: tuple[float, float, float]
    """Mean of each channel, in the order of the network's input: RGB, or BGR if `bgr`."""
    std: tuple[float, float, float]
    flow_mean: float
    flow_std: float
    bgr: bool = False
    difference_scale: float = 1 / 255
    turned_x: bool = False
    """True if x of flow is negated, 255 - q."""


TORCHVISION = Normalisation(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.5, 0.226)
TENSORFLOW = Normalisation(1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.5, 0.5)
"""Normalisation of the weights that torchvision has from TensorFlow: GoogLeNet and Inception v3."""
LITE = Normalisation(1.0, (127, 127, 127), (128, 128, 128), 128, 128, difference_scale=1 / 128)
TSN_PYTORCH = Normalisation(1.0, (104, 117, 128), (1, 1, 1), 128, 1, bgr=True, difference_scale=1.0)
"""BN-Inception. The third mean is tsn-pytorch's; Caffe's is 123."""
CAFFE = Normalisation(1.0, (104, 117, 123), (1, 1, 1), 128, 1, bgr=True, difference_scale=1.0)
MMACTION2 = Normalisation(1.0, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 128, 128)
"""TORCHVISION's for colour; other values for flow."""

MMACTION1 = replace(TSN_PYTORCH, turned_x=True)
"""Normalisation of mmaction 0.1, which turned x around whether or not it mirrored."""

NORMALISATIONS = {
    "caffe": CAFFE, "mmaction1": MMACTION1, "mmaction2": MMACTION2, "tsn_pytorch": TSN_PYTORCH,
}  # fmt: skip
"""Input normalisations selectable with --pixels."""
