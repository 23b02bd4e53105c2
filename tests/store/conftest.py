"""Factory of small real stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_making import RECIPE, Made, add_video, open_writer

from flowpipe import recipe
from flowpipe.store import create_store

MakeStore = Callable[..., Made]


@pytest.fixture
def make_store(tmp_path: Path, rng: np.random.Generator) -> MakeStore:
    """Factory: shards as lists of (video_id, frames[, part, parts]) -> Made."""

    def make(
        *shards: Sequence[tuple[Any, ...]],
        modalities: Sequence[str] = ("rgb", "flow"),
        params: Any = None,
        path: Path = tmp_path / "store",
    ) -> Made:
        made = Made(path)
        create_store(
            path,
            recipe=recipe.canonical(RECIPE),
            recipe_digest=recipe.digest(RECIPE),
            dataset={"name": "test"},
            class_names=("a", "b", "c", "d"),
        )
        for number, videos in enumerate(shards):
            shard = path / "shards" / f"shard-{number:012x}.h5"
            with open_writer(shard, modalities, params) as writer:
                for video_id, frames, *split in videos:
                    part, parts = split or (0, 1)
                    add_video(
                        writer, made, video_id, frames, rng, part=part, parts=parts, params=params
                    )
                made.shards.append(writer.publish())
        return made

    return make
