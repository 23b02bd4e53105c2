"""Recipes are found by name or file, and all their mistakes come at once."""

from __future__ import annotations

import pytest

from flowpipe.errors import RecipeError, UsageError
from flowpipe.recipes import known_names, pipelines_folder, read_recipe, recipe_of


def written(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return read_recipe(str(path))


def test_names_files_and_data_sets_find_their_recipe():
    assert read_recipe("hmdb51").path == pipelines_folder() / "hmdb51.yaml"
    assert recipe_of("hmdb51") == read_recipe("hmdb51")
    assert recipe_of("folder") == read_recipe("default")
    assert read_recipe("ucf101").summary.startswith("UCF101: 13320 clips")
    assert "default" in known_names()


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean ucf101"):
        read_recipe("ufc101")
    with pytest.raises(RecipeError, match="recipe nowhere.yaml cannot be read: No such file"):
        read_recipe("nowhere.yaml")


def test_a_recipe_may_do_without_training(tmp_path):
    extract, train = written(tmp_path, "extract: {bound: 15}").build(
        ["extract.size={width: 320, height: 240}"]
    )
    assert (extract.bound, extract.size.width, train) == (15.0, 320, None)


def test_all_mistakes_of_all_sections_come_at_once(tmp_path):
    file = written(tmp_path, "extract: {bund: 15}\ntrain: {split: [1]}\ntrian: {}\n")
    with pytest.raises(RecipeError) as caught:
        file.build(["train.streams.rgb.segmnts=3"])
    lines = str(caught.value).splitlines()
    assert [line.partition(" is unknown; ")[2] for line in lines] == [
        "did you mean train?",
        "did you mean bound?",
        "did you mean splits?",
        "did you mean segments?",
    ]


@pytest.mark.parametrize("text", ["extract: [1]", "extract: 3", "train: [1]\nextract: {}"])
def test_a_section_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(RecipeError, match="must be a section of keys"):
        written(tmp_path, text).build()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"extract: {bound: 15}  # caf\xe9", "is not UTF-8: byte 0xe9 at offset 27"),
        (b"null", "must hold a mapping at its top, got NoneType"),
        (b"", "must hold a mapping at its top, got NoneType"),
        (b"extract: " + b"[" * 5000, "nested too deeply"),
        (b"extract: " + b"[" * 70 + b"]" * 70, "nested too deeply"),
        (
            b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (key, key, b", ".join([b"*%c" % (key - 1)] * 10))
                for key in range(ord("b"), ord("m"))
            ),
            "aliases expand to more than",
        ),
        (b"extract: {flow: 2001-01-01}", "is a date; put it in quotes"),
        (b"# " + b"x" * 300_000, "is larger than"),
    ],
)
def test_a_hostile_recipe_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=words) as caught:
        read_recipe(str(path))
    assert "mine.yaml" in str(caught.value)
