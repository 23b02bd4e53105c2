"""docs/training.md: its recipe can be built, and every key it names is one."""

from __future__ import annotations

import dataclasses
import re
import typing

import pytest
from checkout import ROOT

from flowpipe.recipes import read_recipe
from flowpipe.tsn.recipe import StreamParams

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
KEYS = re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.M)


def test_the_recipe_of_the_page_can_be_built(tmp_path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (tmp_path / "recipe.yaml").write_text(text)
    _, made = read_recipe(str(tmp_path / "recipe.yaml")).build()
    assert made is not None and made.streams["rgb"].schedule.ema == 0.999


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_the_page_is_known(key: str) -> None:
    found: typing.Any = StreamParams
    for name in key.split("."):
        assert name in {field.name for field in dataclasses.fields(found)}
        found = typing.get_type_hints(found)[name]
    assert len(KEYS) > 9
