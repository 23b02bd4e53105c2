"""Values print their shapes, not their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from store_making import RECIPE, Made, add_video, open_writer

from flowpipe import open_store, params
from flowpipe.modality import MODALITIES
from flowpipe.store import create_store
from flowpipe.types import EncodedPlanes, Frames, Planes


def columns(modality: str, count: int) -> dict[str, np.ndarray]:
    return {c.name: np.zeros((count, *c.shape)) for c in MODALITIES[modality].columns}


def test_values_print_their_shapes() -> None:
    frames = Frames(np.zeros((5, 240, 320, 3), np.uint8), np.arange(5) / 25)
    assert repr(frames) == "<Frames uint8 (5, 240, 320, 3), 0.000 to 0.160 s>"
    planes = Planes("rgb", np.zeros((5, 3, 48, 64), np.uint8))
    assert repr(planes) == "<Planes rgb uint8 (5, 3, 48, 64)>"
    warped = Planes("warped_flow", np.zeros((4, 2, 48, 64), np.uint8), columns("warped_flow", 4))
    assert repr(warped).startswith("<Planes warped_flow uint8 (4, 2, 48, 64), clipped (4,), homo")
    encoded = EncodedPlanes("rgb", (b"abc", b"de"), 48, 64)
    assert repr(encoded) == "<EncodedPlanes rgb: 2 of 48 x 64 pixels, 5 bytes>"


def test_a_store_and_its_videos_print_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "store"
    create_store(
        path, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE), dataset={},
        class_names=("a", "b", "c", "d"),
    )  # fmt: skip
    with open_writer(path / "shards" / "shard-000000000000.h5") as writer:
        add_video(writer, Made(path), "walk/a.mp4", 4, np.random.default_rng(0))
        writer.publish()
    store = open_store(path)
    (video,) = store.videos.values()
    height, width = video.size["rgb"]
    assert repr(store) == f"<Store {path}: 1 video in 1 shard, rgb, flow>"
    assert repr(video) == (
        f"<Video walk/a.mp4: 4 frames, uint8 rgb (4, 3, {height}, {width}), "
        f"flow (3, 2, {height}, {width})>"
    )
