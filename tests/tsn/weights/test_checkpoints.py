"""Weights of other systems: every name is mapped, and round trips are exact."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from flowpipe.datasets.hmdb51 import TSN_ORDER  # noqa: E402
from flowpipe.errors import FormatError  # noqa: E402
from flowpipe.tsn.network.backbones import build, read_weights  # noqa: E402
from flowpipe.tsn.network.model import TSN  # noqa: E402
from flowpipe.tsn.weights.checkpoints import (  # noqa: E402
    in_other_order,
    kind_of,
    to_mmaction2,
    to_ours,
    to_tsn_pytorch,
)


def model(name: str, channels: int = 3) -> TSN:
    torch.manual_seed(4)
    network, row = build(name, "random")
    made = TSN(network, row.features, 7, channels=channels, partial_bn=False)
    for norm_value in made.state_dict().values():
        if norm_value.dtype.is_floating_point:
            norm_value.normal_()
    return made


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_weights_go_to_tsn_pytorch_and_back_unchanged(tmp_path: Path) -> None:
    values = model("bninception", 10).state_dict()
    written = to_tsn_pytorch(values)
    assert "module.base_model.conv1_7x7_s2.weight" in written and "module.new_fc.bias" in written
    torch.save({"epoch": 45, "arch": "BNInception", "state_dict": written, "best_prec1": 0.5},
               tmp_path / "checkpoint.pth.tar")  # fmt: skip
    read = read_weights(tmp_path / "checkpoint.pth.tar")
    assert kind_of(read) == "tsn_pytorch" and same(to_ours(read), dict(values))


def test_weights_of_tsn_pytorch_with_an_old_torch_are_read() -> None:
    # No counters of batches, statistics of shape [1, C], the classifier in its place.
    values = model("bninception").state_dict()
    old = {}
    for name, value in to_tsn_pytorch(values).items():
        if name.endswith("num_batches_tracked"):
            continue
        name = name.replace("module.new_fc.", "module.base_model.fc.")
        old[name] = value[None] if "_bn." in name else value
    ours = to_ours(old)
    wanted = {n: v for n, v in values.items() if not n.endswith("num_batches_tracked")}
    assert same(ours, wanted)
    model("bninception").load_state_dict(ours, strict=False)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_weights_go_to_mmaction2_and_back_unchanged(name: str) -> None:
    pytest.importorskip("torchvision", reason="needs torchvision")
    values = model(name, 10).state_dict()
    written = to_mmaction2(values)
    for known in (
        "backbone.conv1.conv.weight", "backbone.conv1.bn.running_mean",
        "backbone.layer1.0.conv1.conv.weight", "backbone.layer4.1.conv2.bn.bias",
        "backbone.layer2.0.downsample.conv.weight", "backbone.layer2.0.downsample.bn.running_var",
        "cls_head.fc_cls.weight",
    ):  # fmt: skip
        assert known in written
    assert len(written) == len(values)
    written["data_preprocessor.mean"] = torch.zeros(3)
    assert kind_of(written) == "mmaction2" and same(to_ours(written), dict(values))


def test_names_are_those_of_mmaction2_itself() -> None:
    pytest.importorskip("mmaction", reason="mmaction2 is not installed")
    from mmaction.models.backbones import ResNet

    theirs = ResNet(50).state_dict()
    written = to_mmaction2(model("resnet50").state_dict())
    ours = {n.removeprefix("backbone."): v.shape for n, v in written.items() if "cls_head" not in n}
    assert ours == {name: value.shape for name, value in theirs.items()}


def test_names_of_caffe_are_read() -> None:
    values = model("bninception").state_dict()
    layers = {
        "conv1_7x7_s2": "conv1/7x7_s2", "conv2_3x3_reduce": "conv2/3x3_reduce",
        "inception_3a_double_3x3_2": "inception_3a/double_3x3_2",
    }  # fmt: skip
    caffe = {"fc-action.weight": values["new_fc.weight"], "fc-action.bias": values["new_fc.bias"]}
    for ours, theirs in layers.items():
        caffe[f"{theirs}.weight"] = values[f"base_model.{ours}.weight"]
        for kind in ("weight", "bias", "running_mean", "running_var"):
            caffe[f"{theirs}_bn.{kind}"] = values[f"base_model.{ours}_bn.{kind}"][None]
    assert kind_of(caffe) == "caffe"
    read = to_ours(caffe)
    assert len(read) == len(caffe)
    for name, value in read.items():
        assert torch.equal(value, values[name])


def test_mmaction_0_1_s_bn_inception() -> None:
    values = model("bninception", 10).state_dict()
    theirs = {
        name.replace("base_model.", "backbone.").replace("new_fc.", "cls_head.fc_cls."): value
        for name, value in values.items()
    }
    assert kind_of(theirs) == "mmaction1" and same(to_ours(theirs), dict(values))


def test_other_files_are_refused() -> None:
    with pytest.raises(FormatError, match="begin with conv1.weight"):
        kind_of({"conv1.weight": torch.zeros(1)})


def test_hmdb51_s_labels_change_places() -> None:
    # TSN's list has kick_ball before kick and sword_exercise before sword.
    values = {"new_fc.weight": torch.arange(51.0)[:, None], "new_fc.bias": torch.arange(51.0)}
    changed = in_other_order(values, TSN_ORDER)
    moved = [k for k in range(51) if changed["new_fc.bias"][k] != k]
    assert moved == [20, 21, 44, 45]
    assert changed["new_fc.bias"][[20, 21, 44, 45]].tolist() == [21, 20, 45, 44]
    again = in_other_order(changed, TSN_ORDER)
    assert same(again, values)
