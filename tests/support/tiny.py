"""Two networks that are small enough for tests, and a store and a recipe for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import flowpipe.tsn.recipe
from flowpipe import codec, params
from flowpipe.modality import MODALITIES, quantiser_of
from flowpipe.store import ShardWriter, StreamSpec, create_store
from flowpipe.tsn.data.normalisation import TORCHVISION
from flowpipe.tsn.network.backbones import NETWORKS, BackboneRow
from flowpipe.types import EncodedPlanes, Interval, Span, VideoRecord

SIDE = 32
CLASSES = ("dark", "middle", "bright")


class Tiny(nn.Module):
    """One convolution, perhaps normalised, and the mean."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, 4)
        self.bn = nn.BatchNorm2d(8) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x))).mean((2, 3))


def register() -> None:
    """Make recipes and `build` know ``tiny`` and ``tiny_bn``."""
    for name, norm in (("tiny", False), ("tiny_bn", True)):
        NETWORKS[name] = BackboneRow(lambda norm=norm: Tiny(norm), 8, TORCHVISION, size=SIDE)
    known = flowpipe.tsn.recipe.BACKBONES
    flowpipe.tsn.recipe.BACKBONES = tuple(dict.fromkeys((*known, "tiny", "tiny_bn")))


def make_store(
    path: Path,
    videos: int = 12,
    size: tuple[int, int] = (36, 48),
    segments: tuple[Interval, ...] = (),
    odd_size: tuple[int, int] | None = None,
    several: bool = False,
    splits: tuple[str, str] = ("train1", "test1"),
    labelled: bool = True,
    shards: int = 1,
    shortest: int = 9,
) -> Path:
    """Make videos whose brightness, in rgb and flow, is their class; a quarter is for testing.

    Those with odd numbers may have another size. With `several` a video has the labels of all
    classes that are not brighter. A split of an empty name is none. Video k has k frames more than
    the `shortest` and is in shard k modulo `shards`.
    """
    made_with = {"bound": 20.0, "modalities": ["rgb", "flow"]}
    text, digest = params.canonical(made_with), params.digest(made_with)
    create_store(
        path, recipe=text, recipe_digest=digest, dataset={"dataset": "ucf101"}, class_names=CLASSES
    )
    rng = np.random.default_rng(5)
    specs = {n: StreamSpec(codec.RawParams(), quantiser_of(n, 20.0)) for n in ("rgb", "flow")}
    for number in range(shards):
        with ShardWriter(
            path / "shards" / f"{number}.h5", recipe=text, recipe_digest=digest, backend={},
            streams=specs,
        ) as writer:  # fmt: skip
            for k in range(number, videos, shards):
                label, split = k % 3, splits[k % 4 == 3]
                record = VideoRecord(
                    f"video {k:02d}",
                    f"/{k}.avi",
                    labels=(tuple(range(label + 1)) if several else (label,)) if labelled else (),
                    splits=(split,) if split else (),
                    segments=segments,
                )
                writer.begin(Span(record))
                frames, own = shortest + k, odd_size if odd_size and k % 2 else size
                for name in specs:
                    row, count = MODALITIES[name], frames - MODALITIES[name].context
                    planes = rng.integers(0, 60, (count, row.channels, *own), np.uint8) + 90 * label
                    columns = {c.name: np.zeros(count, c.dtype) for c in row.columns}
                    payloads = codec.encode(planes.astype(np.uint8), codec.RawParams())
                    writer.append(EncodedPlanes(name, payloads, *own, columns))
                writer.append_pts(np.arange(frames) / 25)
                writer.commit({"status": "done"})
            writer.publish()
    return path


RECIPE = """
extract: {{}}
train:
  streams:
    rgb: &stream
      backbone: {backbone}
      init: random
      segments: 3
      dropout: {dropout}
      schedule: {{unit: epochs, lr: 0.05, lr_steps: {steps}, end: {end}, batch_size: 4}}
      augment: {{scales: [1, 0.9], flip: true}}
    flow: {{<<: *stream, snippet_length: 2}}
    rgb_diff: {{<<: *stream, snippet_length: 2}}
  test: {{snippets: 4, crops: 10}}
"""


def write_recipe(
    path: Path, backbone: str = "tiny", dropout: float = 0.0, end: int = 6, step: int = 4
) -> Path:
    """Write a recipe for these networks."""
    steps = [step] if step < end else []
    path.write_text(RECIPE.format(backbone=backbone, dropout=dropout, end=end, steps=steps))
    return path
