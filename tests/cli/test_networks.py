"""Weights of a fusion: those of the command line, else of the recipe that all runs share."""

from __future__ import annotations

from typing import Any

import pytest

from flowpipe.cli.networks import weights_of
from flowpipe.errors import UsageError

FUSION = {"rgb": 1.0, "flow": 1.5, "warped_flow": 0.0}


def run(modality: str, fusion: Any = FUSION, **more: Any) -> dict[str, Any]:
    return {"modality": modality, "fusion": fusion, **more}


@pytest.mark.parametrize(
    ("text", "weights"), [("1,1.5", [1, 1.5]), ("0, 2", [0, 2]), ("3,0", [3, 0])]
)
def test_weights_that_are_given(text: str, weights: list[float]) -> None:
    assert weights_of(text, [{}, {}]) == (weights, "--weights")
    assert weights_of(text, [run("rgb"), run("flow")]) == (weights, "--weights")


@pytest.mark.parametrize("text", ["1", "1,2,3", "1,x", "1,", "", "-1,2", "0,0", "nan,1", "inf,1"])
def test_weights_that_are_refused(text: str) -> None:
    wanted = "wants 2 numbers from 0 up, one of them above 0, as 1,1.5, got"
    with pytest.raises(UsageError, match=wanted):
        weights_of(text, [run("rgb"), run("flow")])


def test_runs_that_share_a_recipe_have_its_weights() -> None:
    weights, origin = weights_of(None, [run("flow"), run("rgb")])
    assert weights == [1.5, 1] and "recipe" in origin
    assert weights_of(None, [run("flow"), run("warped_flow"), run("rgb")])[0] == [1.5, 0, 1]


@pytest.mark.parametrize(
    "runs",
    [
        [run("rgb")],
        [run("rgb"), run("rgb")],
        [run("rgb"), run("rgb_diff")],
        [run("rgb"), run("flow", {"rgb": 1.0, "flow": 2.0})],
        [run("rgb"), run("flow", {})],
        [run("rgb", {}), run("flow", {})],
        [run("rgb"), run("flow", fused=["a", "b"])],
        [run("rgb", {"rgb": 0.0, "flow": 0.0}), run("flow", {"rgb": 0.0, "flow": 0.0})],
        [{}, {}],
    ],
)
def test_other_runs_count_alike(runs: list[dict[str, Any]]) -> None:
    weights, origin = weights_of(None, runs)
    assert weights == [1] * len(runs) and "share no recipe" in origin
