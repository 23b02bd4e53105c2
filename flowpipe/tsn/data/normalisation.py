"""Input normalisations: scale, mean, deviation and colour order that weights expect."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace


@dataclass(frozen=True)
class Normalisation:
    """Input normalisation: bytes q become (q * scale - mean) / std.

    Flow has one mean and deviation. Differences of frames are centred and then only scaled.
    """

    scale: float
    """Factor of the bytes of RGB and flow."""
    mean: tuple[float, float, float]
    """Mean of each channel, in the order of the network's input: RGB, or BGR if `bgr`."""
    std: tuple[float, float, float]
    _: KW_ONLY
    flow_mean: float
    flow_std: float
    bgr: bool = False
    """Order of the colours: BGR instead of RGB."""
    difference_scale: float = 1 / 255
    """Factor of differences of bytes."""
    turned_x: bool = False
    """True if x of flow is negated, 255 - q."""


TORCHVISION = Normalisation(
    1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), flow_mean=0.5, flow_std=0.226
)
TENSORFLOW = Normalisation(1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), flow_mean=0.5, flow_std=0.5)
"""Weights that torchvision converted from TensorFlow: GoogLeNet and Inception v3."""
LITE = Normalisation(
    1.0, (127, 127, 127), (128, 128, 128), flow_mean=128, flow_std=128, difference_scale=1 / 128
)
TSN_PYTORCH = Normalisation(
    1.0, (104, 117, 128), (1, 1, 1), flow_mean=128, flow_std=1, bgr=True, difference_scale=1.0
)
"""BN-Inception. The third mean is tsn-pytorch's; Caffe's is 123."""
CAFFE = Normalisation(
    1.0, (104, 117, 123), (1, 1, 1), flow_mean=128, flow_std=1, bgr=True, difference_scale=1.0
)
MMACTION2 = Normalisation(
    1.0, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), flow_mean=128, flow_std=128
)
"""TORCHVISION's mean and deviation for RGB; other values for flow."""

MMACTION1 = replace(TSN_PYTORCH, turned_x=True)
"""mmaction 0.1, which negated x of flow in all images, mirrored or not."""

NORMALISATIONS = {
    "caffe": CAFFE, "mmaction1": MMACTION1, "mmaction2": MMACTION2, "tsn_pytorch": TSN_PYTORCH,
}  # fmt: skip
"""Input normalisations selectable with --pixels."""
