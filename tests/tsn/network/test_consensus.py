"""Consensus functions: values and gradients by the formulas of the paper and by autograd."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from flowpipe.tsn.network.consensus import CONSENSUS  # noqa: E402
from flowpipe.tsn.recipe import StreamParams  # noqa: E402

B, K, C, D = 2, 4, 3, 5


def make(name: str, k: int = 2):
    torch.manual_seed(1)
    module = CONSENSUS[name](K, D, k).double()
    for weight in module.parameters():
        weight.data.normal_()
    logits = torch.randn(B, K, C, dtype=torch.float64, requires_grad=True)
    features = torch.randn(B, K, D, dtype=torch.float64, requires_grad=True)
    return module, logits, features


def test_a_recipe_can_name_each_of_them() -> None:
    for name in CONSENSUS:
        assert StreamParams(consensus=name).consensus == name


@pytest.mark.parametrize("name", CONSENSUS)
def test_gradients_are_those_of_the_values(name: str) -> None:
    module, logits, features = make(name)
    inputs = (logits, features)
    assert torch.autograd.gradcheck(lambda *x: module(*x), inputs)
    weights = list(module.parameters())
    if weights:
        (weight,) = weights
        assert torch.autograd.gradcheck(
            lambda w: torch.func.functional_call(module, {"weight": w}, inputs), (weight,)
        )


def gradient(name: str):
    """d g_i / d f_k^i for every k and i, by autograd: (B, K, C). Classes do not mix."""
    module, logits, features = make(name)
    scores = module(logits, features)
    assert scores.shape == (B, C)
    (found,) = torch.autograd.grad(scores.sum(), logits)
    return module, logits.detach(), features.detach(), scores.detach(), found


def test_average_is_the_mean_of_the_snippets() -> None:
    _, f, _, g, found = gradient("average")
    torch.testing.assert_close(g, f.sum(1) / K)
    torch.testing.assert_close(found, torch.full_like(f, 1 / K))


def test_max_is_the_largest_of_the_snippets() -> None:
    _, f, _, g, found = gradient("max")
    best = f == f.amax(1, keepdim=True)
    torch.testing.assert_close(g, f.amax(1))
    torch.testing.assert_close(found, best.double())
    assert best.sum() == B * C


def test_top_k_is_the_mean_of_the_k_largest() -> None:
    _, f, _, g, found = gradient("top_k")
    chosen = f >= f.sort(1, descending=True).values[:, 1:2]
    torch.testing.assert_close(g, (f * chosen).sum(1) / 2)
    torch.testing.assert_close(found, chosen.double() / 2)


def test_top_k_of_1_and_of_all_are_max_and_average() -> None:
    _, logits, features = make("average")
    for k, other in ((1, "max"), (K, "average"), (99, "average")):
        module = CONSENSUS["top_k"](K, D, k)
        torch.testing.assert_close(module(logits, features), make(other)[0](logits, features))


def test_linear_weighting_is_that_of_the_paper() -> None:
    module, f, _, g, found = gradient("linear")
    w = module.weight.detach()
    torch.testing.assert_close(g, sum(w[k] * f[:, k] for k in range(K)))
    torch.testing.assert_close(found, w[None, :, None].expand_as(f))
    (of_weight,) = torch.autograd.grad(module(f, f).sum(), module.weight)
    torch.testing.assert_close(of_weight, f.sum((0, 2)))  # d g_i / d w_k = f_k^i


def test_attention_is_that_of_the_paper() -> None:
    module, f, features, g, found = gradient("attention")
    w = module.weight.detach()
    a = torch.exp(features @ w)
    a = a / a.sum(1, keepdim=True)
    torch.testing.assert_close(g, (a[:, :, None] * f).sum(1))
    torch.testing.assert_close(found, a[:, :, None].expand_as(f))
    # d A(T_k) / d w = sum over l of A(T_k) ([l = k] - A(T_l)) R_l
    (of_weight,) = torch.autograd.grad(module(f, features).sum(), module.weight)
    by_hand = torch.zeros(D, dtype=torch.float64)
    for b in range(B):
        for k in range(K):
            inner = sum((float(m == k) - a[b, m]) * features[b, m] for m in range(K))
            by_hand += f[b, k].sum() * a[b, k] * inner
    torch.testing.assert_close(of_weight, by_hand)


@pytest.mark.parametrize("name", ["linear", "attention"])
def test_learned_weights_begin_as_the_average(name: str) -> None:
    _, logits, features = make(name)
    fresh = CONSENSUS[name](K, D, 2).double()
    torch.testing.assert_close(fresh(logits, features), logits.mean(1))


def test_linear_weights_of_other_places_are_their_sum_times_the_average() -> None:
    module, _, _ = make("linear")
    logits = torch.randn(B, 7, C, dtype=torch.float64)
    wanted = module.weight.detach().sum() * logits.sum(1) / 7
    torch.testing.assert_close(module(logits, logits).detach(), wanted)


@pytest.mark.parametrize("name", CONSENSUS)
def test_a_test_may_have_other_numbers_of_snippets(name: str) -> None:
    module = CONSENSUS[name](K, D, 3)
    for snippets in (1, 25):
        assert module(torch.randn(B, snippets, C), torch.randn(B, snippets, D)).shape == (B, C)
