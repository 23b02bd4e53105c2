"""BN-Inception (Ioffe and Szegedy 2015) with the names and shapes of the published weights.

Every convolution has a bias, then batch normalisation, then ReLU; pooling counts a last partial
window. Module names are the layers' of the Caffe model with underscores, as tsn-pytorch has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 1024


@dataclass(frozen=True)
class InceptionBlock:
    """Widths of one inception block."""

    name: str
    single: int
    """Channels of the 1x1 branch; 0 in the blocks that halve the size."""
    triple: tuple[int, int]
    """Channels of the 3x3 branch: after its 1x1 reduction, after it."""
    double: tuple[int, int]
    """Channels of the branch of two 3x3: after its reduction, after each."""
    pool: str
    """``avg`` or ``max``."""
    project: int
    """Channels of the 1x1 convolution after the pool; 0 for none."""

    @property
    def stride(self) -> int:
        """Stride of the block: 1, or 2 if it halves the image."""
        return 1 if self.single else 2


BLOCKS = (
    InceptionBlock("3a", 64, (64, 64), (64, 96), "avg", 32),
    InceptionBlock("3b", 64, (64, 96), (64, 96), "avg", 64),
    InceptionBlock("3c", 0, (128, 160), (64, 96), "max", 0),
    InceptionBlock("4a", 224, (64, 96), (96, 128), "avg", 128),
    InceptionBlock("4b", 192, (96, 128), (96, 128), "avg", 128),
    InceptionBlock("4c", 160, (128, 160), (128, 160), "avg", 128),
    InceptionBlock("4d", 96, (128, 192), (160, 192), "avg", 128),
    InceptionBlock("4e", 0, (128, 192), (192, 256), "max", 0),
    InceptionBlock("5a", 352, (192, 320), (160, 224), "avg", 128),
    InceptionBlock("5b", 352, (192, 320), (192, 224), "max", 128),
)


class BNInception(nn.Module):
    """(N, 3, H, W) -> (N, 1024): features after global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", 3, 64, 7, stride=2, padding=3)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3, padding=1)
        width = 192
        for block in BLOCKS:
            name = f"inception_{block.name}"
            if block.single:
                self._add(f"{name}_1x1", width, block.single, 1)
            reduced, out = block.triple
            self._add(f"{name}_3x3_reduce", width, reduced, 1)
            self._add(f"{name}_3x3", reduced, out, 3, stride=block.stride, padding=1)
            reduced, wide = block.double
            self._add(f"{name}_double_3x3_reduce", width, reduced, 1)
            self._add(f"{name}_double_3x3_1", reduced, wide, 3, padding=1)
            self._add(f"{name}_double_3x3_2", wide, wide, 3, stride=block.stride, padding=1)
            if block.project:
                self._add(f"{name}_pool_proj", width, block.project, 1)
            width = block.single + out + wide + (block.project or width)

    def _add(
        self, name: str, inputs: int, outputs: int, side: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        self.add_module(name, nn.Conv2d(inputs, outputs, side, stride, padding))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1))

    def _step(self, name: str, x: Tensor) -> Tensor:
        normalised = getattr(self, f"{name}_bn")(getattr(self, name)(x))
        return functional.relu(normalised, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = _max_pool(self._step("conv1_7x7_s2", x))
        x = self._step("conv2_3x3", self._step("conv2_3x3_reduce", x))
        x = _max_pool(x)
        for block in BLOCKS:
            x = self._inception(block, x)
        return x.mean((2, 3))

    def _inception(self, block: InceptionBlock, x: Tensor) -> Tensor:
        name = f"inception_{block.name}"
        branches = [self._step(f"{name}_1x1", x)] if block.single else []
        branches.append(self._step(f"{name}_3x3", self._step(f"{name}_3x3_reduce", x)))
        double = self._step(f"{name}_double_3x3_reduce", x)
        double = self._step(f"{name}_double_3x3_1", double)
        branches.append(self._step(f"{name}_double_3x3_2", double))
        if block.stride == 2:
            pooled = _max_pool(x)
        elif block.pool == "max":
            pooled = functional.max_pool2d(x, 3, 1, padding=1, ceil_mode=True)
        else:
            pooled = functional.avg_pool2d(x, 3, 1, padding=1, ceil_mode=True)
        branches.append(self._step(f"{name}_pool_proj", pooled) if block.project else pooled)
        return torch.cat(branches, 1)


def _max_pool(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2, ceil_mode=True)
