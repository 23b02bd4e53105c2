"""Hostile JSON and YAML end in the error of their kind, with the file's name, in bounded time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe import strict
from flowpipe.errors import DatasetError, FormatError, RecipeError

DEEP = 100_000

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def laughs(levels: int, merged: bool = False) -> str:
    """Ten aliases of ten aliases of ...: a small file of 10 ** levels values."""
    lines = ["a0: &a0 {k: v}" if merged else "a0: &a0 [x]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        content = f"{{<<: [{aliases}], k{level}: v}}" if merged else f"[{aliases}]"
        lines.append(f"a{level}: &a{level} {content}")
    return "\n".join(lines)


@given(PLAIN)
def test_plain_values_come_back_from_json(values: object) -> None:
    text = json.dumps(values)
    assert strict.parse_json(text, "a text", kind=None) == values
    assert strict.parse_json(text.encode(), "a text", kind=None) == values


@given(PLAIN.map(lambda values: json.dumps(values)).filter(lambda text: "\\" not in text))
def test_yaml_reads_json_as_json_does(text: str) -> None:
    assert strict.parse_yaml(text, "a text") == json.loads(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_values_or_an_error_of_the_kind(content: bytes) -> None:
    try:
        strict.parse_json(content, "hostile.json", error=DatasetError)
    except DatasetError as error:
        assert "hostile.json" in str(error)


@given(st.text(alphabet="&a*b<:-?|>![]{}'\"#,. \n\t0123456789eE_x", max_size=80))
def test_any_text_is_yaml_or_an_error_of_the_kind(text: str) -> None:
    try:
        strict.parse_yaml(text, "hostile.yaml")
    except RecipeError as error:
        assert "hostile.yaml" in str(error)


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("levels", [strict.MOST_DEPTH + 1, 900, DEEP])
def test_deep_nesting_is_an_error_of_the_kind(opening: str, closing: str, levels: int) -> None:
    deepest = "1" if opening != "[" else ""
    text = opening * levels + deepest + closing * levels
    with pytest.raises(FormatError, match=r"deep\.json.*nested too deeply"):
        strict.parse_json(text, "deep.json", kind=None)
    with pytest.raises(FormatError, match=r"deep\.json"):
        strict.parse_json(text[: levels * len(opening)], "deep.json", kind=None)
    with pytest.raises(RecipeError, match=r"deep\.yaml.*nested too deeply"):
        strict.parse_yaml(text if levels < DEEP else text[:DEEP], "deep.yaml")


def test_nesting_up_to_the_bound_is_read() -> None:
    text = "[" * strict.MOST_DEPTH + "]" * strict.MOST_DEPTH
    assert strict.parse_json(text, "a text", kind=list) == json.loads(text)
    shallower = text[1:-1]
    assert strict.parse_yaml(shallower, "a text") == json.loads(shallower)


@pytest.mark.parametrize("merged", [False, True])
def test_aliases_that_expand_without_bound_are_refused(merged: bool) -> None:
    with pytest.raises(RecipeError, match=r"laughs\.yaml.*expand to more than"):
        strict.parse_yaml(laughs(12, merged), "laughs.yaml")
    assert strict.parse_yaml(laughs(3, merged), "a text")["a2"]


def test_an_alias_of_itself_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"loop\.yaml.*inside of what it names"):
        strict.parse_yaml("extract: &a\n  flow: [1, *a]\n", "loop.yaml")


@pytest.mark.parametrize("text", ["2001-01-01", "!!binary aGFsbG8=", "!!set {a}"])
def test_values_that_json_has_not_are_refused_by_name(text: str) -> None:
    with pytest.raises(RecipeError, match=r"odd\.yaml.*in quotes"):
        strict.parse_yaml(f"extract: [{text}]", "odd.yaml")


@pytest.mark.parametrize(
    "text", ["2001-13-41", "!!int ''", "!!float x", "0b", "&a", "!!python/name:os.system", "%"]
)
def test_yaml_that_breaks_its_constructors_is_an_error_of_the_kind(text: str) -> None:
    try:
        strict.parse_yaml(f"extract: [{text}]", "odd.yaml")
    except RecipeError as error:
        assert "odd.yaml" in str(error)


@pytest.mark.parametrize("text, got", [("null", "None"), ("[1]", "a list"), ('"x"', "text")])
def test_another_outermost_value_is_refused(text: str, got: str) -> None:
    with pytest.raises(FormatError, match=f"facts.json must hold an object, got {got}"):
        strict.parse_json(text, "facts.json")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "make, words",
    [
        (_fifo, "not a regular file"),
        (Path.mkdir, "cannot be read: Is a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.write_bytes(b"\xff\xfe{\0}\0"), "not UTF-8: byte 0xff at offset 0"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.write_bytes(b" " * 101), "larger than the 100 bytes"),
    ],
)
def test_files_that_are_no_text_are_refused_before_they_are_read(
    make: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.json"
    make(path)
    with pytest.raises(DatasetError, match=rf"hostile\.json.*{words}"):
        strict.read_json(path, error=DatasetError, most_bytes=100)


def test_a_file_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        strict.read_json(tmp_path / "none.json")
