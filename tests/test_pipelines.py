"""Recipes in pipelines/: each builds, says what it needs and takes, and shows a real command."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from flowpipe import recipe
from flowpipe.datasets import DATASETS
from flowpipe.extract_recipe import ExtractRecipe

RECIPES = sorted((ROOT / "pipelines").glob("*.yaml"))


def header(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds(path):
    recipe.build(ExtractRecipe, recipe.load(path)["extract"], where="extract")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_header_says_what_it_needs_and_takes(path):
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
        recipe.digest(
            recipe.build(ExtractRecipe, recipe.load(ROOT / "pipelines" / name)["extract"])
        )
        for name in ("default.yaml", "thumos14.yaml")
    }
    digests.add(recipe.digest(ExtractRecipe()))
    assert len(digests) == 1
