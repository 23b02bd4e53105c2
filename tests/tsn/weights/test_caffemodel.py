"""Caffe models, written here by Google's own library: every layer is read, damage is refused."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("google.protobuf", reason="needs protobuf")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402
from networks import assert_same_backbone, network, random_values  # noqa: E402

from flowpipe.errors import FormatError  # noqa: E402
from flowpipe.tsn.network.transfer import initialise_backbone  # noqa: E402
from flowpipe.tsn.weights.checkpoints import kind_of, to_ours  # noqa: E402
from flowpipe.tsn.weights.files import read_weights  # noqa: E402

ONE, MANY = 1, 3
INT64, STRING, FLOAT, BOOL, MESSAGE = 3, 9, 2, 8, 11
# From caffe.proto of BVLC/caffe: what a file of weights has.
MESSAGES = {
    "BlobShape": [("dim", 1, MANY, INT64, "")],
    "BlobProto": [
        ("num", 1, ONE, INT64, ""), ("channels", 2, ONE, INT64, ""), ("height", 3, ONE, INT64, ""),
        ("width", 4, ONE, INT64, ""), ("data", 5, MANY, FLOAT, ""),
        ("shape", 7, ONE, MESSAGE, "BlobShape"),
    ],
    "LayerParameter": [
        ("name", 1, ONE, STRING, ""), ("type", 2, ONE, STRING, ""), ("bottom", 3, MANY, STRING, ""),
        ("loss_weight", 5, MANY, FLOAT, ""), ("blobs", 7, MANY, MESSAGE, "BlobProto"),
        ("phase", 10, ONE, INT64, ""),
    ],
    "V1LayerParameter": [
        ("bottom", 2, MANY, STRING, ""), ("name", 4, ONE, STRING, ""), ("type", 5, ONE, INT64, ""),
        ("blobs", 6, MANY, MESSAGE, "BlobProto"),
    ],
    "NetParameter": [
        ("name", 1, ONE, STRING, ""), ("layers", 2, MANY, MESSAGE, "V1LayerParameter"),
        ("input_dim", 4, MANY, INT64, ""), ("force_backward", 5, ONE, BOOL, ""),
        ("layer", 100, MANY, MESSAGE, "LayerParameter"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def caffe() -> types.SimpleNamespace:
    """The messages as classes."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, type_name in fields:
            made = message.field.add(name=field, number=number, label=label, type=kind)
            if type_name:
                made.type_name = f".caffe.{type_name}"
            if label == MANY and kind in (INT64, FLOAT) and field in ("dim", "data"):
                made.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return types.SimpleNamespace(**{
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in MESSAGES
    })  # fmt: skip


def layer_name(ours: str) -> str:
    """Name in Caffe's BN-Inception: inception_3a/1x1_bn of inception_3a_1x1_bn."""
    parts = ours.split("_")
    cut = 2 if parts[0] == "inception" else 1
    return f"{'_'.join(parts[:cut])}/{'_'.join(parts[cut:])}"


def written(caffe, values: dict[str, torch.Tensor]) -> object:
    """BN-Inception as Caffe writes it: BN of four blobs (1, C), layers without blobs between."""
    net = caffe.NetParameter(name="BN-Inception", input_dim=[1, 3, 224, 224], force_backward=False)
    net.layer.add(name="data", type="VideoData", phase=0)
    modules = dict.fromkeys(n.rpartition(".")[0] for n in values if n.startswith("base_model."))
    for module in modules:
        ours = module.removeprefix("base_model.")
        layer = net.layer.add(name=layer_name(ours), loss_weight=[0.5], bottom=["x"])
        parts = ("weight", "bias")
        if ours.endswith("_bn"):
            parts = ("weight", "bias", "running_mean", "running_var")
        for part in parts:
            value = values[f"{module}.{part}"]
            shape = [1, len(value)] if ours.endswith("_bn") else list(value.shape)
            blob = layer.blobs.add(data=value.flatten().tolist())
            blob.shape.dim.extend(shape)
    layer = net.layer.add(name="fc-action", type="InnerProduct")
    for part in ("weight", "bias"):
        value = values[f"new_fc.{part}"]
        layer.blobs.add(data=value.flatten().tolist()).shape.dim.extend(value.shape)
    return net


def test_every_weight_is_read_as_it_is(caffe, tmp_path: Path) -> None:
    values = random_values(network("bninception", "flow", 5)[0])
    path = tmp_path / "ucf101_split_1_tsn_flow_reference_bn_inception.caffemodel.v5"
    net = written(caffe, values)
    path.write_bytes(net.SerializeToString())
    read = read_weights(path)
    assert kind_of(read) == "caffe"
    ours = to_ours(read)
    expected = {n: v for n, v in values.items() if not n.endswith("num_batches_tracked")}
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)
    # What TSN begins with has ImageNet's classifier, which is left out.
    path = tmp_path / "bn_inception_flow_init.caffemodel"
    net.layer[-1].name = "fc"
    path.write_bytes(net.SerializeToString())
    model, rest = network("bninception", "flow", 5)
    words = initialise_backbone(model, *rest, path)
    assert_same_backbone(model, values)
    assert "weights of Caffe-TSN; 414 weights" in words
    assert words.endswith("not taken: the classifier of ImageNet")


def test_models_from_before_2015_are_read(caffe, tmp_path: Path) -> None:
    net = caffe.NetParameter()
    layer = net.layers.add(name="conv1/7x7", type=4)
    weight = torch.randn(2, 3, 5, 5)
    layer.blobs.add(num=2, channels=3, height=5, width=5, data=weight.flatten().tolist())
    layer.blobs.add(num=1, channels=1, height=1, width=2, data=[0.5, 1.5])
    layer = net.layers.add(name="fc-action", type=14)
    layer.blobs.add(num=1, channels=1, height=3, width=2, data=range(6))
    (tmp_path / "old.caffemodel").write_bytes(net.SerializeToString())
    read = read_weights(tmp_path / "old.caffemodel")
    assert torch.equal(read["conv1/7x7.weight"], weight)
    assert read["conv1/7x7.bias"].tolist() == [0.5, 1.5]
    assert read["fc-action.weight"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_damage_is_refused(caffe, tmp_path: Path) -> None:
    net = caffe.NetParameter()
    layer = net.layer.add(name="conv1/7x7")
    layer.blobs.add(data=[1.0] * 300).shape.dim.extend([3, 100])
    whole = net.SerializeToString()
    path = tmp_path / "x.caffemodel"
    for size in (*range(1, 40), *range(40, len(whole), 97)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="x.caffemodel"):
            read_weights(path)
    layer.blobs[0].shape.dim[1] = 99
    path.write_bytes(net.SerializeToString())
    with pytest.raises(FormatError, match=r"a blob of shape \[3, 99\] has 300 values"):
        read_weights(path)
    for _ in range(2):
        layer.blobs.add(data=[1.0]).shape.dim.append(1)
    layer.blobs[0].shape.dim[1] = 100
    path.write_bytes(net.SerializeToString())
    with pytest.raises(FormatError, match="layer conv1/7x7 has 3 blobs, wanted 1, 2 or 4"):
        read_weights(path)
    path.write_bytes(caffe.NetParameter(name="empty").SerializeToString())
    with pytest.raises(FormatError, match="is a Caffe model without weights"):
        read_weights(path)
    for content in (b"\xff" * 20, b"\x0b\x01", b"text"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="cannot be read as a Caffe model|without weights"):
            read_weights(path)
    with pytest.raises(FormatError, match="no weights at"):
        read_weights(tmp_path / "none.caffemodel")


def test_a_converted_model_is_read_by_torch(tmp_path: Path) -> None:
    path = tmp_path / "bn_inception.caffemodel.pth"
    torch.save({"conv1/7x7_s2.weight": torch.ones(2)}, path)
    assert read_weights(path)["conv1/7x7_s2.weight"].tolist() == [1, 1]
