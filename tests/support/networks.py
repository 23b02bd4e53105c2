"""Networks with random weights for tests of files of weights."""

from __future__ import annotations

import torch

from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.network.backbones import BackboneRow, build
from flowpipe.tsn.network.model import TSN, make_model
from flowpipe.tsn.recipe import StreamParams


def network(
    backbone: str, modality: str = "rgb", length: int = 1, classes: int = 3, **stream: object
) -> tuple[TSN, tuple[BackboneRow, InputSpec, StreamParams]]:
    """Return a network and the other arguments of `initialise_backbone`."""
    params = StreamParams(backbone=backbone, snippet_length=length, **stream)
    module, row = build(backbone, "random", params.pixels)
    seen = InputSpec(modality, length, modality)
    return make_model(module, row, classes, seen.channels, params), (row, seen, params)


def random_values(model: TSN) -> dict[str, torch.Tensor]:
    """Return random weights for a network."""
    generator = torch.Generator().manual_seed(4)
    for value in model.state_dict().values():
        if value.dtype.is_floating_point:
            value.normal_(generator=generator)
    return dict(model.state_dict())


def assert_same_backbone(model: TSN, values: dict[str, torch.Tensor], but: str = "") -> None:
    for name, value in model.base_model.state_dict().items():
        if name != but and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, values[f"base_model.{name}"]), name
