"""Small real stores: random planes of known content in raw or JPEG, split videos included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.modality import MODALITIES, START_S
from flowpipe.params import canonical, digest
from flowpipe.store import ShardWriter, StreamSpec, open_store
from flowpipe.types import EncodedPlanes, Interval, Span, VideoRecord

RECIPE = {"bound": 20.0, "modalities": ["rgb", "flow"]}
QUANTISERS: dict[str, dict[str, Any]] = {
    "rgb": {},
    "flow": {"bound": 20.0, "zero_level": 128},
    "warped_flow": {"bound": 20.0, "zero_level": 128},
    "rgb_diff": {"bound": 128, "zero_level": 128},
    "audio": {"floor_db": -100.0},
}


@dataclass
class Made:
    """A store and what was put into it."""

    path: Path
    planes: dict[str, dict[str, NDArray[np.uint8]]] = field(default_factory=dict)
    """By video id and modality: (images, C, H, W), parts joined."""
    pts_s: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    shards: list[Path] = field(default_factory=list)


def random_columns(modality: str, count: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        c.name: np.arange(count) * 0.48
        if c is START_S
        else rng.integers(0, 100, (count, *c.shape)).astype(c.dtype)
        for c in MODALITIES[modality].columns
    }


def record(video_id: str) -> VideoRecord:
    return VideoRecord(
        video_id,
        f"/videos/{video_id}.avi",
        labels=(3, 1),
        subset="training",
        splits=("train1",),
        segments=(Interval(3, 0.5, 1.5),),
    )


def open_writer(
    path: Path,
    modalities: Sequence[str] = ("rgb", "flow"),
    params: Any = None,
    made_with: Any = RECIPE,
) -> ShardWriter:
    """Return a writer of a small shard: raw codec unless `params` names another."""
    params = params or codec.RawParams()
    specs = {m: StreamSpec(codec.for_modality(params, m), QUANTISERS[m]) for m in modalities}
    return ShardWriter(
        path,
        recipe=canonical(made_with),
        recipe_digest=digest(made_with),
        backend={"ops": "test"},
        streams=specs,
    )


def add_video(
    writer: ShardWriter,
    made: Made,
    video_id: str,
    frames: int,
    rng: np.random.Generator,
    *,
    part: int = 0,
    parts: int = 1,
    size: tuple[int, int] = (6, 8),
    window: int = 4,
    params: Any = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write one video, or part, of random planes in windows, and remember it."""
    params = params or codec.RawParams()
    writer.begin(Span(record(video_id), part, parts))
    for modality in writer.streams:
        row = MODALITIES[modality]
        count = frames if part < parts - 1 else max(0, frames - row.context)
        planes = rng.integers(0, 256, (count, row.channels, *size), np.uint8)
        columns = random_columns(modality, count, rng)
        held = made.planes.setdefault(video_id, {})
        if START_S.name in columns:
            columns[START_S.name] += 0.48 * len(held.get(modality, ()))
        for at in range(0, count, window):
            stop = min(at + window, count)
            writer.append(
                EncodedPlanes(
                    modality,
                    codec.encode(planes[at:stop], codec.for_modality(params, modality)),
                    *size,
                    {name: values[at:stop] for name, values in columns.items()},
                )
            )
        held[modality] = np.concatenate([held[modality], planes]) if modality in held else planes
    before = made.pts_s.get(video_id, np.empty(0))
    pts = (len(before) + np.arange(frames)) / 25 + 0.1
    writer.append_pts(pts)
    made.pts_s[video_id] = np.concatenate([before, pts])
    writer.commit({"status": "done", **(meta or {})})


class Snippets:
    """The five lines that a training set needs around a store."""

    def __init__(self, path: Path) -> None:
        self.store = open_store(path)
        self.ids = list(self.store.videos)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, k: int) -> Any:
        return np.ascontiguousarray(self.store.snippet(self.ids[k], "flow", 1, 3))
