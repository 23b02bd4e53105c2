"""TSN: cross-modality weights, partial batch normalisation, learning rates of each weight."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.tsn.network.backbones import build  # noqa: E402
from flowpipe.tsn.network.model import TSN, first_conv, make_model, norms, synchronise_batch_norm  # noqa: E402
from flowpipe.tsn.recipe import ScheduleParams, StreamParams  # noqa: E402


def small(channels: int = 3, **options) -> TSN:
    """TSN on the smallest network with everything that matters."""
    torch.manual_seed(0)
    network, row = build("efficientnet_lite0", "random")
    return TSN(network, row.features, 5, channels=channels, **options)


@pytest.mark.parametrize("channels", [10, 15])
def test_cross_modality_weights_are_the_mean_over_colours_not_rescaled(channels: int) -> None:
    network, row = build("bninception", "random")
    old = first_conv(network)[2]
    weight, bias = old.weight.detach().clone(), old.bias.detach().clone()
    TSN(network, row.features, 5, channels=channels)
    new = first_conv(network)[2]
    assert network.conv1_7x7_s2 is new and new.stride == old.stride and new.padding == old.padding
    assert new.weight.shape == (64, channels, 7, 7)
    for channel in range(channels):
        torch.testing.assert_close(new.weight[:, channel], weight.mean(1))
    torch.testing.assert_close(new.bias, bias)
    # The same gray image in every channel: as much stronger as there are more channels.
    gray = torch.rand(1, 1, 16, 16)
    colour = old(gray.expand(-1, 3, -1, -1)) - bias[:, None, None]
    stack = new(gray.expand(-1, channels, -1, -1)) - bias[:, None, None]
    torch.testing.assert_close(stack, colour * channels / 3, atol=1e-5, rtol=1e-4)


def test_without_it_the_first_layer_is_random_and_keeps_its_kind() -> None:
    model = small(10, mean_over_colours=False)
    layer = first_conv(model.base_model)[2]
    assert type(layer).__name__ == "SameConv2d"
    assert not torch.allclose(layer.weight[:, 0], layer.weight[:, 1])


def test_partial_bn_freezes_all_but_the_first() -> None:
    model = small(partial_bn=True, segments=2)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    model.train()
    model(torch.randn(2, 2, 3, 64, 64)).sum().backward()
    first, *others = norms(model)
    names = {module: name for name, module in model.named_modules()}
    after = model.state_dict()
    assert first.weight.grad is not None and first.bias.grad is not None
    assert not torch.equal(
        after[f"{names[first]}.running_mean"], before[f"{names[first]}.running_mean"]
    )
    for norm in others:
        assert norm.weight.grad is None and norm.bias.grad is None
        for kind in ("running_mean", "running_var", "num_batches_tracked"):
            name = f"{names[norm]}.{kind}"
            assert torch.equal(after[name], before[name])
    assert model.get_parameter("base_model._conv_head.weight").grad is not None


def test_without_partial_bn_all_of_it_learns() -> None:
    model = small(partial_bn=False)
    assert all(norm.training for norm in norms(model))
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize(("is_flow", "weight", "bias"), [(True, 5, 10), (False, 1, 2)])
def test_learning_rates_are_tsn_pytorch_s(is_flow: bool, weight: float, bias: float) -> None:
    network, row = build("bninception", "random")
    model = TSN(network, row.features, 5, channels=10 if is_flow else 3)
    groups = model.groups(ScheduleParams(lr=0.001, weight_decay=5e-4), is_flow=is_flow)
    rates = {
        id(w): (g["lr"] / 0.001, g["weight_decay"] / 5e-4) for g in groups for w in g["params"]
    }
    named = {name: rates.get(id(w)) for name, w in model.named_parameters()}
    near = {name: tuple(map(round, value)) for name, value in named.items() if value is not None}
    assert near["base_model.conv1_7x7_s2.weight"] == (weight, 1)
    assert near["base_model.conv1_7x7_s2.bias"] == (bias, 0)
    assert near["base_model.conv2_3x3.weight"] == near["new_fc.weight"] == (1, 1)
    assert near["base_model.conv2_3x3.bias"] == near["new_fc.bias"] == (2, 0)
    assert near["base_model.conv1_7x7_s2_bn.weight"] == (1, 0)
    assert near["base_model.conv1_7x7_s2_bn.bias"] == (1, 0)
    assert "base_model.conv2_3x3_bn.weight" not in near  # frozen: in no group
    assert sum(len(g["params"]) for g in groups) == 69 * 2 + 2 + 2  # each weight once


def test_uniform_multipliers_treat_all_weights_alike() -> None:
    model = small(10)
    params = ScheduleParams(lr=0.1, weight_decay=0.01, multipliers="uniform", classifier_lr=5)
    rest, classifier = model.groups(params, is_flow=True)
    assert (rest["lr"], rest["weight_decay"], rest["lr_multiplier"]) == (0.1, 0.01, 1)
    assert (classifier["lr"], classifier["weight_decay"]) == (0.5, 0.01)
    assert {id(w) for w in classifier["params"]} == {id(w) for w in model.new_fc.parameters()}
    learned = [w for w in model.parameters() if w.requires_grad]
    assert len(rest["params"]) + len(classifier["params"]) == len(learned)


def test_learned_consensus_learns_as_any_weight() -> None:
    for name in ("linear", "attention"):
        model = small(consensus=name)
        (weight,) = model.consensus.parameters()
        (group,) = (
            g
            for g in model.groups(ScheduleParams(lr=1.0, weight_decay=1.0), is_flow=False)
            if any(w is weight for w in g["params"])
        )
        assert (group["lr"], group["weight_decay"]) == (1.0, 1.0)


def test_the_new_layer_begins_as_the_papers_say() -> None:
    model = small()
    assert model.new_fc.bias.abs().max() == 0
    assert 0.0008 < float(model.new_fc.weight.detach().std()) < 0.0012


def test_consensus_is_of_logits_and_snippets_do_not_mix() -> None:
    model = small(segments=3, dropout=0.0).eval()
    x = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        one_by_one = torch.stack([model.new_fc(model.base_model(x[b])).mean(0) for b in range(2)])
        torch.testing.assert_close(model(x), one_by_one, atol=1e-6, rtol=1e-4)


def test_dropout_is_of_each_snippet_by_itself() -> None:
    model = small(segments=4, dropout=0.5, partial_bn=False)
    model.base_model.eval()
    x = torch.randn(1, 1, 3, 64, 64).expand(1, 4, 3, 64, 64)
    with torch.no_grad():
        _, logits = model.snippets(x)
    assert len({tuple(row) for row in logits[0].tolist()}) == 4


def test_a_recipe_s_stream_makes_the_network_it_says() -> None:
    stream = StreamParams(
        backbone="efficientnet_lite0",
        init="cross_modality",
        segments=7,
        snippet_length=5,
        consensus="top_k",
        dropout=0.7,
        partial_bn=False,
    )
    network, row = build(stream.backbone, "random")
    model = make_model(network, row, 11, 10, stream)
    assert (model.channels, model.dropout.p, model.partial_bn) == (10, 0.7, False)
    assert model.consensus.k == 3 and model.new_fc.out_features == 11


def test_the_average_of_features_differs_by_its_dropout_alone() -> None:
    x = torch.randn(2, 3, 3, 64, 64)
    features = small(consensus="feature_average", dropout=0.5, classifier_std=1.0).eval()
    scores = small(consensus="average", dropout=0.5, classifier_std=1.0).eval()
    scores.load_state_dict(features.state_dict())
    torch.testing.assert_close(features(x), scores(x), atol=1e-4, rtol=1e-4)
    features.train()
    seen: list[torch.Tensor] = []
    features.dropout.register_forward_hook(lambda module, inputs, output: seen.append(output))
    features(x)
    assert [tuple(made.shape) for made in seen] == [(2, 1280)]  # one mask for a video
    assert features.new_fc.weight.std().item() == pytest.approx(1.0, rel=0.05)


def test_synchronised_normalisation_keeps_weights_names_and_what_is_frozen() -> None:
    model = small(partial_bn=True)
    names = {name: value.clone() for name, value in model.state_dict().items()}
    params = ScheduleParams()
    before = [[id(w) for w in g["params"]] for g in model.groups(params, is_flow=False)]
    made = synchronise_batch_norm(model, "cuda:0").train()
    first, *others = norms(made.base_model)
    assert isinstance(first, torch.nn.SyncBatchNorm) and others
    assert first.training and not any(norm.training for norm in others)
    assert [[id(w) for w in g["params"]] for g in made.groups(params, is_flow=False)] == before
    after = made.state_dict()
    assert names.keys() == after.keys()
    assert all(torch.equal(names[name], after[name]) for name in names)


def test_synchronised_normalisation_needs_gpus() -> None:
    with pytest.raises(UsageError, match="does not run on CPUs; set sync_bn to false"):
        synchronise_batch_norm(small(), "cpu")
