"""Consensus in tests: that of the training by default, another by name; the file records it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import in_process  # noqa: E402
from tiny_training import job, run  # noqa: E402

from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.evaluation import read_facts, read_h5  # noqa: E402
from flowpipe.store import open_store  # noqa: E402
from flowpipe.tsn.network.consensus import CONSENSUS  # noqa: E402
from flowpipe.tsn.recipe import StreamParams  # noqa: E402
from flowpipe.tsn.recipe import TestParams as Params  # noqa: E402
from flowpipe.tsn.run_folder import LAST, RunFacts, read_checkpoint, save  # noqa: E402
from flowpipe.tsn.testing import mtwi  # noqa: E402
from flowpipe.tsn.testing.pooling import Pooling  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer, SnippetScores  # noqa: E402

S, CROPS, C, D, K = 9, 10, 4, 6, 3


def video(snippets: int = S) -> SnippetScores:
    rng = np.random.default_rng(3)
    return SnippetScores(rng.normal(size=(snippets, CROPS, C)), rng.normal(size=(snippets, D)))


def make_trained(name: str) -> tuple[StreamParams, torch.nn.Module]:
    stream = StreamParams(consensus=name, segments=K, top_k=2)
    torch.manual_seed(1)
    module = CONSENSUS[name](K, D, stream.top_k)
    for weight in module.parameters():
        weight.data.normal_()
    return stream, module


@pytest.mark.parametrize("name", CONSENSUS)
@pytest.mark.parametrize("snippets", [K, S])
def test_a_test_combines_snippets_as_validation_does(name: str, snippets: int) -> None:
    stream, module = make_trained(name)
    pooling, one = Pooling(Params(), stream, module), video(snippets)
    with torch.no_grad():
        wanted = module.double()(
            torch.from_numpy(one.scores.mean(1))[None], torch.from_numpy(one.features)[None]
        )[0].numpy()
    np.testing.assert_allclose(pooling(one), wanted, rtol=1e-12)
    if name in ("average", "feature_average"):
        np.testing.assert_allclose(pooling(one), one.scores.mean(1).mean(0), rtol=1e-12)
    assert pooling.as_trained and "as trained" in pooling.describe()
    if name in ("max", "top_k"):
        assert np.abs(pooling(one) - one.scores.mean((0, 1))).max() > 0.05


def test_every_consensus_is_that_worked_out_by_hand() -> None:
    means = np.sort(video().scores.mean(1), 0)[::-1]
    for trained_with in ("average", "top_k"):
        stream, module = make_trained(trained_with)
        for params, wanted in (
            (Params(consensus="average"), means.mean(0)),
            (Params(consensus="max"), means[0]),
            (Params(consensus="top_k"), means[:2].mean(0)),
            (Params(consensus="top_k", top_k=5), means[:5].mean(0)),
            (Params(consensus="top_k", top_k=99), means.mean(0)),
        ):
            np.testing.assert_allclose(Pooling(params, stream, module)(video()), wanted)
    stream, module = make_trained("linear")
    weights = module.weight.detach().numpy().astype(float)
    one = video(K)
    np.testing.assert_allclose(Pooling(Params(), stream, module)(one), weights @ one.scores.mean(1))
    stream, module = make_trained("attention")
    relevance = np.exp(video().features @ module.weight.detach().numpy().astype(float))
    np.testing.assert_allclose(
        Pooling(Params(), stream, module)(video()),
        relevance / relevance.sum() @ video().scores.mean(1),
    )


def test_crops_are_pooled_first() -> None:
    stream, module = make_trained("top_k")
    best = np.sort(video().scores.max(1), 0)[::-1][:2].mean(0)
    np.testing.assert_allclose(Pooling(Params(of_crops="max"), stream, module)(video()), best)


def test_mtwi_pools_crops_as_its_variant_does_unless_told() -> None:
    stream, module = make_trained("average")
    one, windows = video(40), (1, 2, 4)

    def pool(**options: str) -> np.ndarray:
        return Pooling(Params(protocol="mtwi", windows=windows, **options), stream, module)(one)

    mean, best = one.scores.mean(1, keepdims=True), one.scores.max(1, keepdims=True)
    for variant in ("code", "paper"):
        by_variant = pool(mtwi=variant)
        np.testing.assert_array_equal(by_variant, mtwi.aggregate(one.scores, windows, variant))
        for of_crops, crops in (("mean", mean), ("max", best)):
            np.testing.assert_array_equal(
                pool(mtwi=variant, of_crops=of_crops), mtwi.aggregate(crops, windows, variant)
            )
    np.testing.assert_array_equal(pool(), pool(mtwi="code"))


def test_mtwi_takes_attention_where_it_was_trained_and_else_top_k() -> None:
    one = video(40)
    for name in CONSENSUS:
        stream, module = make_trained(name)
        pooling = Pooling(Params(protocol="mtwi", windows=(2,)), stream, module)
        if name == "attention":
            relevance = one.features @ module.weight.detach().numpy().astype(float)
            wanted = mtwi.aggregate(one.scores, (2,), consensus="attention", relevance=relevance)
            assert pooling.facts()["name"] == "attention"
        else:
            wanted = mtwi.aggregate(one.scores, (2,))
            assert pooling.facts()["top_k"] == "max(15, N/4)"
        np.testing.assert_allclose(pooling(one), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ["linear", "attention"])
def test_weights_that_were_not_learned_cannot_be_asked_for(name: str) -> None:
    with pytest.raises(UsageError, match=f"consensus {name} has learned weights"):
        Pooling(Params(consensus=name), *make_trained("average"))


@pytest.fixture(scope="module")
def run_of(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained with attention, of more weight than one epoch gives it."""
    folder = tmp_path_factory.mktemp("attention")
    wanted = job(store, folder, end=1)
    run(wanted)
    facts = json.loads((wanted.run / "run.json").read_text())
    facts["stream"]["consensus"] = "attention"
    (wanted.run / "run.json").write_text(json.dumps(facts))
    values = read_checkpoint(wanted.run / LAST)
    torch.manual_seed(2)
    values["model"]["consensus.weight"] = torch.randn(8) * 100
    save(wanted.run / LAST, values)
    return wanted.run


def test_the_file_and_the_command_name_the_consensus(
    store: Path, run_of: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.h5"
    done = in_process("test", store, run_of, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "mean of crops, then snippets by attention (as trained)" in done.stderr
    assert read_facts(out)["consensus"] == {
        "name": "attention", "of": "snippets", "trained": True, "of_crops": "mean",
    }  # fmt: skip
    network, opened = SnippetScorer(run_of, LAST, "cpu"), open_store(store)
    starts = np.array([1, 4, 7, 10])  # 4 snippets of "video 03"
    one = network.snippet_scores(opened, "video 03", starts, 10, "repeat")
    relevance = np.exp(one.features @ network.model.consensus.weight.detach().double().numpy())
    wanted = relevance / relevance.sum() @ one.scores.mean(1)
    np.testing.assert_allclose(read_h5(out).values[0], wanted, rtol=1e-6)
    assert np.abs(wanted - one.scores.mean((0, 1))).max() > 1e-4, "the average is another"

    out = tmp_path / "top_k.h5"
    done = in_process("test", store, run_of, "-o", out, "--consensus", "top_k", "--top-k", 2)
    assert "snippets by top_k of the 2 highest (trained with attention)" in done.stderr
    assert read_facts(out)["consensus"]["top_k"] == 2
    assert read_facts(out)["test"]["consensus"] == "top_k"

    out = tmp_path / "mtwi.h5"
    done = in_process("test", store, run_of, "-o", out, "--protocol", "mtwi", "--rate", 5)
    assert "max of crops, then windows by attention (as trained), M-TWI code" in done.stderr
    assert read_facts(out)["test"]["rate_hz"] == 5

    done = in_process("test", store, run_of, "-o", out, "--consensus", "linear")
    assert done.returncode == 2 and "choose average, max or top_k" in done.stderr
    done = in_process(
        "test", store, run_of, "-o", out, "--protocol", "mtwi", "--consensus", "linear"
    )
    assert done.returncode == 2 and "mtwi has windows" in done.stderr


def test_runs_of_older_versions_pool_crops_as_before(run_of: Path, tmp_path: Path) -> None:
    """``mean`` was written into every run; with M-TWI of the code the maximum was taken."""
    facts = json.loads((run_of / "run.json").read_text())
    for name in ("consensus", "top_k", "mtwi"):
        del facts["test"][name]
    for there, wanted in (("mean", "auto"), ("max", "max")):
        facts["test"]["of_crops"] = there
        (tmp_path / "run.json").write_text(json.dumps(facts))
        assert RunFacts.read(tmp_path).test.of_crops == wanted
