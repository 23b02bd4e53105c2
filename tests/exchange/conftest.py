"""Stores to export: every modality, a split video, a single frame, names that need care."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_making import Made, add_video, open_writer

from flowpipe import codec
from flowpipe.modality import MODALITIES
from flowpipe.params import canonical, digest
from flowpipe.store import create_store

SIZE = (32, 40)
CLASSES = ("walk", "run fast", "jump/down", "fall")
RECIPE = {"bound": 20.0, "modalities": list(MODALITIES)}
IDS = ("plain", "v with blanks.and.dots", "folder/clip#[1]", "-dash", ".hidden", "ü%41")


def make_store(path: Path, params: object) -> Made:
    """Videos of random planes; `plain` in two parts, `-dash` a single frame."""
    rng = np.random.default_rng(7)
    create_store(
        path,
        recipe=canonical(RECIPE),
        recipe_digest=digest(RECIPE),
        dataset={"dataset": "ucf101"},
        class_names=CLASSES,
    )
    made = Made(path)
    for number, part in enumerate((0, 1)):
        name = path / "shards" / f"shard-{number}.h5"
        with open_writer(name, tuple(MODALITIES), params, RECIPE) as writer:
            options = {"size": SIZE, "params": params}
            add_video(writer, made, "plain", 5 + part, rng, part=part, parts=2, **options)
            for video_id in IDS[1 + number :: 2]:
                frames = 1 if video_id == "-dash" else 7
                add_video(writer, made, video_id, frames, rng, **options)
            made.shards.append(writer.publish())
    return made


@pytest.fixture(scope="session")
def jpeg_store(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_store(tmp_path_factory.mktemp("jpeg") / "store", codec.JpegParams())


@pytest.fixture(scope="session")
def lossless_store(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_store(tmp_path_factory.mktemp("raw") / "store", codec.RawParams())
