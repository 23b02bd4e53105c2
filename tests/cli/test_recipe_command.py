"""flowpipe recipe list|show|check, as a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Run

from flowpipe.recipes import known_names


def test_list_has_every_recipe_with_what_it_is_for(flowpipe: Run):
    lines = flowpipe("recipe", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == known_names()
    assert "27 hours" in next(line for line in lines if line.startswith("ucf101"))


def test_what_is_shown_is_a_recipe(flowpipe: Run, tmp_path: Path):
    changed = ("--set", "extract.bound=15", "--set", "train.streams.flow.dropout=0.5")
    shown = flowpipe("recipe", "show", "ucf101", *changed).stdout
    copy = tmp_path / "copy.yaml"
    copy.write_text(shown)
    assert "bound: 15.0" in shown and "dropout: 0.5" in shown
    digest = shown.partition("\n")[0].rpartition(" ")[2]
    assert digest in flowpipe("recipe", "check", copy).stdout
    assert digest not in flowpipe("recipe", "check", "ucf101").stdout


@pytest.mark.parametrize("command", ["show", "check"])
def test_mistakes_end_with_code_2(flowpipe: Run, tmp_path: Path, command: str):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("extract: {bund: 3}\ntrain: {streams: {rgb: {dropuot: 1}}}\n")
    ended = flowpipe("recipe", command, wrong)
    assert ended.returncode == 2
    assert "did you mean bound?" in ended.stderr and "did you mean dropout?" in ended.stderr
    ended = flowpipe("recipe", command, "thumos")
    assert ended.returncode == 2 and "did you mean thumos14?" in ended.stderr


def test_settings_without_effect_are_reported(flowpipe: Run):
    crops = ("--set", "train.streams.rgb.augment.crops=resized")
    done = flowpipe("recipe", "check", "default", *crops)
    assert done.returncode == 0
    assert "train.streams.rgb: augment.scales has no effect with augment.crops" in done.stderr


def test_extract_refuses_a_recipe_whose_train_section_is_wrong(flowpipe: Run, tmp_path: Path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("train: {splitz: [1]}\n")
    store = tmp_path / "store"
    ended = flowpipe("extract", "--dataset", "demo", "--out", store, "--recipe", wrong)
    assert ended.returncode == 2 and "did you mean splits?" in ended.stderr
    assert not store.exists()


def test_a_key_outside_its_section_is_refused_with_its_place(tmp_path):
    from flowpipe.errors import RecipeError
    from flowpipe.recipes import read_recipe

    path = tmp_path / "own.yaml"
    path.write_text("size: {width: 340, height: 256}\n")
    with pytest.raises(RecipeError, match=r"did you mean extract\.size\?"):
        read_recipe(str(path)).build()
