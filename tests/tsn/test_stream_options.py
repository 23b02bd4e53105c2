"""Sampling, normalisation and M-TWI variant: set in the recipe, overridden by the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from command import in_process  # noqa: E402
from tiny_training import job, run  # noqa: E402

from flowpipe.cli.networks import apply_options  # noqa: E402
from flowpipe.evaluation import read_facts, read_h5  # noqa: E402
from flowpipe.store import open_store  # noqa: E402
from flowpipe.tsn.data.normalisation import MMACTION2, NORMALISATIONS, TORCHVISION  # noqa: E402
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES  # noqa: E402
from flowpipe.tsn.recipe import NormalisationName, Sampling  # noqa: E402
from flowpipe.tsn.run_folder import LAST, RUN_FILE, RunFacts  # noqa: E402
from flowpipe.tsn.testing.predict import FusedRun, predict  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer  # noqa: E402


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with options of its streams and of its test."""
    path = tiny.write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.yaml", end=1)
    text = path.read_text()
    for old, new in (
        ("init: random", "init: random\n      sampling: caffe\n      pixels: mmaction2"),
        ("{snippets: 4, crops: 10}", "{protocol: mtwi, rate_hz: 5, mtwi: code}"),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def train(store: Path, recipe: Path, out: Path, *options: str) -> RunFacts:
    done = in_process(
        "train", str(store), "--modality", "flow", "--recipe", str(recipe), "-o", str(out),
        "--workers", "0", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return RunFacts.read(out)


def test_a_recipe_can_name_every_rule_and_normalisation() -> None:
    assert set(get_args(Sampling)) == set(SAMPLING_STRATEGIES)
    assert set(get_args(NormalisationName)) == {"backbone", *NORMALISATIONS}


def test_the_recipe_decides_unless_the_command_line_does(
    store: Path, recipe: Path, tmp_path: Path
) -> None:
    facts = train(store, recipe, tmp_path / "a")
    assert (facts.stream.sampling, facts.stream.pixels) == ("caffe", "mmaction2")
    assert SnippetScorer(tmp_path / "a", LAST, "cpu").row.pixels == MMACTION2
    facts = train(store, recipe, tmp_path / "b", "--sampling", "mmaction2", "--pixels", "backbone")
    assert (facts.stream.sampling, facts.stream.pixels) == ("mmaction2", "backbone")
    assert SnippetScorer(tmp_path / "b", LAST, "cpu").row.pixels == TORCHVISION

    scores = {}
    for name, options in (("code", ()), ("paper", ("--mtwi", "paper", "--sampling", "dense"))):
        file = tmp_path / f"{name}.h5"
        done = in_process("test", str(store), str(tmp_path / "a"), "-o", str(file), *options)
        assert done.returncode == 0, done.stderr
        scores[name] = read_h5(file).values
        assert read_facts(file)["test"]["mtwi"] == name
        assert read_facts(file)["stream"]["sampling"] == ("dense" if options else "caffe")
    assert not np.allclose(scores["code"], scores["paper"])


def test_a_stream_that_the_recipe_lacks_is_refused(
    store: Path, recipe: Path, tmp_path: Path
) -> None:
    done = in_process(
        "train", str(store), "--modality", "warped_flow", "--recipe", str(recipe), "-o",
        str(tmp_path / "a"), "--sampling", "dense",
    )  # fmt: skip
    assert done.returncode == 2
    assert "the recipe trains rgb, flow, rgb_diff, not warped_flow" in done.stderr


@pytest.mark.parametrize(("old", "new"), [("", "backbone"), ("mmaction2", "mmaction2")])
def test_a_run_of_an_older_version_resumes(store: Path, tmp_path: Path, old: str, new: str) -> None:
    # Runs had rule and pixels beside the stream, and lack options that streams have got since.
    wanted = job(store, tmp_path, end=1)
    made = apply_options(wanted.recipe, "rgb", pixels=new)
    wanted = replace(wanted, recipe=made)
    run(wanted)
    path = wanted.run / RUN_FILE
    values = json.loads(path.read_text())
    for name in ("sampling", "pixels", "classifier_std"):
        del values["stream"][name]
    values |= {"rule": "tsn_pytorch", "pixels": old}
    path.write_text(json.dumps(values))
    assert RunFacts.read(wanted.run).stream == made.streams["rgb"]
    assert "the run is finished: 3 steps are done and none is left" in run(wanted)


def test_training_and_testing_see_images_of_the_recipe_s_input_size(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(store, tmp_path, end=1, stream={"input_size": 40})
    seen: list[tuple[int, ...]] = []
    plain = tiny.Tiny.forward

    def forward(network: tiny.Tiny, x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[2:]))
        return plain(network, x)

    monkeypatch.setattr(tiny.Tiny, "forward", forward)
    run(wanted)
    trained = len(seen)
    network = SnippetScorer(wanted.run, LAST, "cpu")
    network.snippet_scores(open_store(store), "video 11", np.array([0]), 5, "repeat")
    assert trained and len(seen) > trained
    assert set(seen) == {(40, 40)}


def test_a_time_line_of_dense_sampling_is_in_the_order_of_time(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=1)
    run(replace(wanted, recipe=apply_options(wanted.recipe, "rgb", sampling="dense")))
    fused = FusedRun(wanted.run, store, 1.0, replace(wanted.recipe.test, snippets=3, crops="1"))
    found = predict("video 11", [fused], "cpu", LAST)
    assert len(found.times_s) == 30 and np.all(np.diff(found.times_s) >= 0)
    network, opened = SnippetScorer(wanted.run, LAST, "cpu"), open_store(store)
    for time_s, probabilities in zip(found.times_s[::7], found.by_snippet[::7], strict=True):
        image = np.searchsorted(opened.pts_s("video 11"), time_s)
        one = network.snippet_scores(opened, "video 11", np.array([image]), 1, "loop")
        scores = one.scores[0, 0]
        np.testing.assert_allclose(probabilities, np.exp(scores) / np.exp(scores).sum(), rtol=1e-4)
