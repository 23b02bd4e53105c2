"""Factory of small real stores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_making import RECIPE, Made, add_video, open_writer

from flowpipe.params import canonical, digest
from flowpipe.store import create_store

MakeStore = Callable[..., Made]


@pytest.fixture
def make_store(tmp_path: Path, rng: np.random.Generator) -> MakeStore:
    """Factory: shards as lists of (video_id, frames[, part, parts]) -> Made."""
    return maker(tmp_path / "store", rng)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """`make_store` for stores that many tests damage: made once, each gets a copy at a path."""
    kept: dict[str, Made] = {}

    def copy(to: Path, *shards: Sequence[tuple[Any, ...]], **options: Any) -> Made:
        key = repr((shards, options))
        if key not in kept:
            make = maker(tmp_path_factory.mktemp("made") / "store", np.random.default_rng(3))
            kept[key] = make(*shards, **options)
        made = kept[key]
        shutil.copytree(made.path, to)
        return replace(made, path=to, shards=[to / s.relative_to(made.path) for s in made.shards])

    return copy


def maker(default: Path, rng: np.random.Generator) -> MakeStore:
    """Return a function that makes stores, each at a new path or at the given one."""

    def make(
        *shards: Sequence[tuple[Any, ...]],
        modalities: Sequence[str] = ("rgb", "flow"),
        params: Any = None,
        path: Path = default,
    ) -> Made:
        made = Made(path)
        create_store(
            path,
            recipe=canonical(RECIPE),
            recipe_digest=digest(RECIPE),
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
