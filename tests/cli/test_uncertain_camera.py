"""Pairs of uncertain camera motion are counted and shown on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from camera_scene import foreground_scene
from command import Run
from videofile import encode_video

from flowpipe import open_store
from flowpipe.errors import RecipeError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.params import canonical, digest, plain
from flowpipe.store.header import check_recipe, create_store, read_store_header

SIZE = ["--size", "160x128", "--workers", "1", "--set", "flow.name=dis"]


def write_clip(path: Path, shape: str, share: float) -> None:
    rng = np.random.default_rng(5)
    scene = foreground_scene(rng, shape, share, (6.0, 2.0), height=128, width=160)
    frames = np.repeat(scene.frames[[0, 1, 0], ..., None], 3, axis=3)
    encode_video(path, frames, codec="ffv1")


def test_uncertain_pairs_are_counted_in_the_last_lines_and_by_info(
    tmp_path: Path, flowpipe: Run
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(videos / "half.mkv", "side", 0.5)
    write_clip(videos / "sure.mkv", "disc", 0.2)
    store = tmp_path / "store"
    done = flowpipe(
        "extract", "--videos", videos, "--out", store, "--modalities", "warped_flow", *SIZE
    )
    assert done.returncode == 0, done.stderr
    assert "1 x camera_uncertain: in some pairs of warped flow" in done.stderr
    counted = json.loads(flowpipe("info", store, "--json").stdout)["notes"]
    assert counted["camera_uncertain"] == {"videos": 1, "example": "half.mkv"}
    notes = {
        name: json.loads(flowpipe("info", store, name, "--json").stdout)["facts"]["notes"]
        for name in open_store(store).videos
    }
    assert "camera_uncertain:2" in notes["half.mkv"]
    assert not any(note.startswith("camera_uncertain") for note in notes["sure.mkv"])


def test_stores_made_before_the_estimator_was_changed_are_told_apart(tmp_path: Path) -> None:
    """Without warped flow a recipe keeps its digest; with it, the message says what to set."""
    assert plain(ExtractRecipe())["warp"]["estimator"] == "ransac"
    now = ExtractRecipe(modalities=("rgb", "warped_flow"))
    old = replace(now, warp=replace(now.warp, estimator="ransac"))
    create_store(
        tmp_path, recipe=canonical(old), recipe_digest=digest(old), dataset={}, class_names=[]
    )
    header = read_store_header(tmp_path)
    with pytest.raises(RecipeError, match="warp.estimator: ransac there, background here"):
        check_recipe(tmp_path, header, digest(now), plain(now))
