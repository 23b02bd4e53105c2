"""Parameters of recipes: strict values, all mistakes at once, digests that follow meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe import params
from flowpipe.errors import RecipeError
from flowpipe.extraction.recipe import ExtractRecipe


@dataclass(frozen=True)
class Fast:
    name: ClassVar[str] = "fast"
    speed: int = 3


@dataclass(frozen=True)
class Exact:
    name: ClassVar[str] = "exact"
    digits: float = 0.5

    def __post_init__(self) -> None:
        if self.digits < 0:
            raise ValueError(f"digits must not be negative, got {self.digits}")


@dataclass(frozen=True)
class Worded:
    kept: Literal["420", "444"] = "420"


CHOICES: dict[str, Any] = {"fast": Fast, "exact": Exact}


@dataclass(frozen=True)
class Top:
    bound: float = 20.0
    mode: Literal["fixed", "free"] = "fixed"
    names: tuple[str, ...] = ("a",)
    on: bool = True
    limit: int | None = None
    solver: Any = field(default_factory=Fast, metadata={"choices": CHOICES})
    solvers: Mapping[str, Any] = field(default_factory=dict, metadata={"choices": CHOICES})


def test_defaults_fill_what_is_left_out() -> None:
    assert params.build(Top, {}) == Top()
    assert params.build(Top, {"bound": 3}) == Top(bound=3.0)


def test_choices_are_named_in_short_or_with_their_params() -> None:
    assert params.build(Top, {"solver": "exact"}).solver == Exact()
    made = params.build(Top, {"solvers": {"x": {"name": "fast", "speed": 9}}})
    assert made.solvers == {"x": Fast(9)}


def test_all_mistakes_come_at_once_with_the_nearest_name() -> None:
    values = {
        "bond": 1,
        "mode": "fred",
        "on": 1,
        "names": "a",
        "solver": {"name": "fsat"},
        "solvers": {"x": {"name": "exact", "digits": -1}},
    }
    with pytest.raises(RecipeError) as caught:
        params.build(Top, values)
    text = str(caught.value)
    assert len(text.splitlines()) == 6
    for hint in ("did you mean bound", "did you mean free", "recipe.on", "must be a list",
                 "did you mean fast", "digits must not be negative"):  # fmt: skip
        assert hint in text


def test_a_bool_is_not_a_number() -> None:
    with pytest.raises(RecipeError, match="recipe.bound must be float"):
        params.build(Top, {"bound": True})


@given(
    st.builds(
        Top,
        bound=st.floats(0.5, 100),
        mode=st.sampled_from(["fixed", "free"]),
        names=st.lists(st.text(max_size=4), max_size=3).map(tuple),
        limit=st.none() | st.integers(0, 9),
        solver=st.builds(Fast, speed=st.integers(0, 9)) | st.builds(Exact, digits=st.floats(0, 1)),
    )
)
def test_plain_values_build_the_same_params_again(made: Top) -> None:
    again = params.build(Top, params.plain(made))
    assert again == made
    assert params.digest(again) == params.digest(made)


def test_digest_follows_meaning_not_spelling() -> None:
    short, long = params.build(Top, {"bound": 20}), params.build(Top, {"solver": {"name": "fast"}})
    assert params.digest(short) == params.digest(long)
    assert params.digest(short) != params.digest(params.build(Top, {"bound": 20.5}))


def test_override_sets_nested_values_and_leaves_the_original() -> None:
    before = {"solver": {"name": "fast"}}
    after = params.override(before, ["solver.speed=7", "names=[b, c]"])
    assert after == {"solver": {"name": "fast", "speed": 7}, "names": ["b", "c"]}
    assert before == {"solver": {"name": "fast"}}


def test_a_number_may_stand_for_a_word_of_digits() -> None:
    assert params.build(Worded, {"kept": 444}).kept == "444"  # YAML reads `kept: 444` so
    for wrong in (411, True, 444.0, None):
        with pytest.raises(RecipeError, match="one of 420, 444, got"):
            params.build(Worded, {"kept": wrong})


@pytest.mark.parametrize("setting", ["bound", "=3", ""])
def test_override_refuses_what_is_no_setting(setting: str) -> None:
    with pytest.raises(RecipeError, match="key=value"):
        params.override({}, [setting])


def test_a_file_that_cannot_be_read_is_named_with_its_fault(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    with pytest.raises(RecipeError, match="r.yaml"):
        params.load(path)
    path.write_text("a: [1\n")
    with pytest.raises(RecipeError, match="not valid YAML"):
        params.load(path)
    path.write_text("- 1\n")
    with pytest.raises(RecipeError, match="mapping at its top"):
        params.load(path)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+.1e-2", "0.01e-1", "1.e-3", "0.001"])
def test_a_number_with_an_exponent_is_a_number(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"bound: {text}\nword: '{text}'\n")
    assert params.load(path) == {"bound": 0.001, "word": text}
    assert params.override({}, [f"bound={text}"]) == {"bound": 0.001}


@pytest.mark.parametrize("text", ["[1", "{", "a: b: c", "*x"])
def test_override_refuses_a_value_that_is_no_yaml(text: str) -> None:
    with pytest.raises(RecipeError, match="--set bound=.* not valid YAML"):
        params.override({}, [f"bound={text}"])


def test_a_size_that_is_half_given_is_refused() -> None:
    with pytest.raises(RecipeError, match="extract.size has width without height; give both"):
        params.build(ExtractRecipe, {"size": {"width": 224}}, where="extract")
    with pytest.raises(RecipeError, match="has height without width"):
        params.build(ExtractRecipe, {"size": {"height": 224}}, where="extract")
    assert params.build(ExtractRecipe, {"size": {}}).size == params.build(ExtractRecipe, {}).size


def test_numpy_s_scalars_become_python_s() -> None:
    values = {
        "bound": np.float64(3), "on": np.bool_(False), "limit": np.int64(4),
        "names": [np.str_("b")], "mode": np.str_("free"),
        "solver": {"name": "exact", "digits": np.float32(0.25)},
    }  # fmt: skip
    made = params.build(Top, values)
    assert made == params.build(
        Top, {"bound": 3.0, "on": False, "limit": 4, "names": ["b"], "mode": "free",
              "solver": {"name": "exact", "digits": 0.25}},
    )  # fmt: skip
    numbers = (made.bound, made.on, made.limit, made.names[0], made.mode, made.solver.digits)
    assert list(map(type, numbers)) == [float, bool, int, str, str, float]
    with pytest.raises(RecipeError, match="recipe.on must be bool"):
        params.build(Top, {"on": np.int64(1)})


def test_a_store_records_no_local_field() -> None:
    @dataclass(frozen=True)
    class Trained:
        weights: str = field(default="", metadata={"local": True})
        sha256: str = ""

    here, there = Trained("/a/x.pth", "12"), Trained("/b/x.pth", "12")
    assert params.plain([here]) == [{"weights": "/a/x.pth", "sha256": "12"}]
    assert params.plain([here], stored=True) == [{"sha256": "12"}]
    assert params.digest(here) == params.digest(there) != params.digest(Trained("/a/x.pth", "34"))
    assert params.build(Trained, params.plain(here)) == here
