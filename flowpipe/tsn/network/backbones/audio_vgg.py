"""A small VGG for spectrograms, after VGGish (Hershey et al., ICASSP 2017), reduced.

VGGish has 72 million weights, nearly all in fully connected layers. Here a mean over frequencies
and times stands for these, batch normalisation follows each convolution, and 1.1 million are left.
"""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = 256

_STAGES = ((32,), (64,), (128, 128), (256, 256))
"""Widths of the convolutions before each pooling."""


class AudioVGG(nn.Module):
    """Spectrograms (N, C, H, W) of any size from 16 x 16 -> features (N, 256)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3  # TSN replaces the first layer by one for a single channel
        for widths in _STAGES:
            for width in widths:
                layers += [
                    nn.Conv2d(before, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of spectrograms.

        Parameters
        ----------
        x : float (N, C, H, W)
            Spectrograms.

        Returns
        -------
        float (N, 256)
            Mean over frequencies and times.
        """
        features: Tensor = self.features(x).mean((2, 3))
        return features
