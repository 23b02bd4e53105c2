"""Recipes in pipelines/: each builds, says what it needs and takes, and shows a real command."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from checkout import ROOT

from flowpipe import params
from flowpipe.datasets import DATASETS
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.recipes import read_recipe

RECIPES = sorted((ROOT / "pipelines").glob("*.yaml"))


def header(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds_and_reads_back_as_it_is_shown(path, tmp_path):
    extract, train = read_recipe(path.stem).build()
    sections = {"extract": params.plain(extract)} | (
        {"train": params.plain(train)} if train else {}
    )
    shown = tmp_path / "shown.yaml"
    shown.write_text(params.dump(sections))
    assert read_recipe(str(shown)).build() == (extract, train)


def test_every_official_set_has_a_recipe_that_trains_all_it_extracts():
    for name in set(DATASETS) - {"demo", "demo_sound", "folder", "list", "video"}:
        extract, train = read_recipe(name).build()
        assert train is not None
        assert set(extract.modalities) <= set(train.streams)
        assert set(train.fusion) <= set(extract.modalities)


@pytest.mark.parametrize(
    ("name", "stream", "lr", "lr_steps", "end", "clip", "dropout"),
    [  # the solvers and prototxts of the Caffe code, then the README of the PyTorch code
        ("ucf101", "rgb", 0.001, (1500, 3000), 3500, 40, 0.8),
        ("ucf101", "flow", 0.005, (10000, 16000), 18000, 20, 0.7),
        ("ucf101", "warped_flow", 0.005, (10000, 16000), 18000, 20, 0.7),
        ("hmdb51", "rgb", 0.001, (1000, 2000), 2500, 40, 0.8),
        ("hmdb51", "flow", 0.005, (4000, 6000), 7000, 20, 0.7),
        ("ucf101", "rgb_diff", 0.001, (80, 160), 180, 40, 0.8),
        ("tsn_pytorch", "rgb", 0.001, (30, 60), 80, 20, 0.8),
        ("tsn_pytorch", "flow", 0.001, (190, 300), 340, 20, 0.7),
    ],
)
def test_schedules_are_the_published_ones(name, stream, lr, lr_steps, end, clip, dropout):
    train = read_recipe(name).build()[1]
    assert train is not None
    chosen = train.streams[stream]
    schedule = chosen.schedule
    got = (schedule.lr, schedule.lr_steps, schedule.end, schedule.clip_gradient, chosen.dropout)
    assert got == (lr, lr_steps, end, clip, dropout)
    assert schedule.unit == ("iterations" if end > 400 else "epochs")
    assert (schedule.batch_size, schedule.momentum, schedule.weight_decay) == (128, 0.9, 5e-4)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_header_of_a_recipe_says_what_it_needs_and_takes(path):
    text = header(path)
    for word in ("# Needs ", "# Command ", "# Takes "):
        assert word in text
    command = next(line for line in text.splitlines() if line.startswith("# Command"))
    words = shlex.split(command.removeprefix("# Command"))
    assert words[:2] == ["flowpipe", "extract"]
    if "--dataset" in words:
        assert words[words.index("--dataset") + 1] == path.stem
        assert path.stem in DATASETS


def test_recipes_with_the_paper_s_values_make_one_kind_of_store():
    # Equal values give equal digests whatever is written out, so that stores can be compared.
    digests = {
        params.digest(read_recipe(path.stem).build()[0])
        for path in RECIPES
        if not path.stem.startswith("demo")
    }
    assert digests == {params.digest(ExtractRecipe())}
