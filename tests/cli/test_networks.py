"""Weights of a fusion: those of the command line, else of the recipe that all runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run

from flowpipe.cli.networks import weights_of
from flowpipe.errors import UsageError
from flowpipe.evaluation import Scores, read_h5, sigmoid, softmax, write_scores

FUSION = {"rgb": 1.0, "flow": 1.5, "warped_flow": 0.0}


def run(modality: str, fusion: Any = FUSION, **more: Any) -> dict[str, Any]:
    return {"modality": modality, "fusion": fusion, **more}


@pytest.mark.parametrize(
    ("text", "weights"), [("1,1.5", [1, 1.5]), ("0, 2", [0, 2]), ("3,0", [3, 0])]
)
def test_given_weights_are_used(text: str, weights: list[float]) -> None:
    assert weights_of(text, [{}, {}]) == (weights, "--weights")
    assert weights_of(text, [run("rgb"), run("flow")]) == (weights, "--weights")


@pytest.mark.parametrize("text", ["1", "1,2,3", "1,x", "1,", "", "-1,2", "0,0", "nan,1", "inf,1"])
def test_impossible_weights_are_refused(text: str) -> None:
    wanted = "must be 2 numbers from 0 up, one of them above 0, such as 1,1.5, got"
    with pytest.raises(UsageError, match=wanted):
        weights_of(text, [run("rgb"), run("flow")])


def test_the_example_has_a_weight_for_each_run() -> None:
    with pytest.raises(UsageError, match=r"must be 3 numbers .*, such as 1,1\.5,1, got 1,2$"):
        weights_of("1,2", [run("rgb")] * 3)


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
def test_runs_of_different_recipes_have_equal_weights(runs: list[dict[str, Any]]) -> None:
    weights, origin = weights_of(None, runs)
    assert weights == [1] * len(runs) and "share no recipe" in origin


def test_fused_probabilities_are_those_of_the_training(flowpipe: Run, tmp_path: Path) -> None:
    """The softmax; the sigmoid of a network that was trained class by class."""
    values = np.array([[0.0, np.log(3), -np.log(3)], [2.0, 0.0, 0.0]])
    labels = np.array([[True, True, False], [True, False, False]])
    rgb, flow, out = (tmp_path / f"{name}.h5" for name in ("rgb", "flow", "out"))
    for path, loss in ((rgb, "bce"), (flow, "cross_entropy")):
        scores = Scores(str(path), ("a", "b"), values, labels)
        write_scores(path, scores, run(path.stem, {}, stream={"loss": {"name": loss}}))
    done = flowpipe("fuse", rgb, flow, "--softmax", "-o", out)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(read_h5(out).values, sigmoid(values) + softmax(values))
    assert "weights 1, 1 (the default: the runs share no recipe with weights for" in done.stderr
