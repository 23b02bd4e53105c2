"""flow/raft_weights.py: files of torchvision's names and of the original code's."""

from __future__ import annotations

import re

import pytest
from raft_making import save_weights

from flowpipe.errors import BackendError
from flowpipe.flow.raft_weights import load_network, sha256_of

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

TO_ORIGINAL = (
    # The names that the original code gives to torchvision's weights; benchmarks/raft_original.py
    # compares with the code itself.
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^(.net)\.conv\.", r"\1.conv2."),
    (r"^(.net)\.convnormrelu\.0", r"\1.conv1"),
    (r"^(.net)\.convnormrelu\.1", r"\1.norm1"),
    (r"convnormrelu(\d)\.0", r"conv\1"),
    (r"convnormrelu(\d)\.1", r"norm\1"),
    (r"\.motion_encoder\.conv(corr|flow)(\d)\.0", lambda m: f".encoder.conv{m[1][0]}{m[2]}"),
    (r"\.motion_encoder\.conv\.0", ".encoder.conv"),
    (r"^mask_predictor\.convrelu\.0", "update_block.mask.0"),
    (r"^mask_predictor\.conv", "update_block.mask.2"),
)
GRU = {
    "large": (r"\.recurrent_block\.convgru(\d)\.(conv.)", r".gru.\2\1"),
    "small": (r"\.recurrent_block\.convgru1\.(conv.)", r".gru.\1"),
}


def original_of(state, model):
    """Rename a state dict as the original training saves it."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in (*TO_ORIGINAL, GRU[model]):
            name = re.sub(pattern, replacement, name)
        renamed[f"module.{name}"] = tensor
        if ".downsample.1." in name:  # it is a field of the block, too
            renamed[f"module.{name.replace('downsample.1', 'norm3')}"] = tensor
    return renamed


@pytest.mark.parametrize("model", ["large", "small"])
@pytest.mark.parametrize("parallel", [True, False])
def test_weights_of_the_original_code_are_renamed(model, parallel, tmp_path):
    meant = torch.load(save_weights(tmp_path / "a.pth", model), weights_only=True)
    for number, tensor in enumerate(meant.values()):
        tensor.fill_(number)  # no two are equal
    original = original_of(meant, model)
    names = set(original)
    # fmt: off
    assert names >= {
        "module.fnet.conv1.weight", "module.cnet.layer2.0.downsample.0.bias",
        "module.update_block.encoder.convc1.weight", "module.update_block.flow_head.conv2.bias",
        f"module.update_block.gru.convz{'1' if model == 'large' else ''}.weight",
    }
    # fmt: on
    assert not names & {f"module.{name}" for name in meant if "encoder" in name}
    assert len(original) == {"large": 179, "small": 106}[model]
    if not parallel:
        original = {name.removeprefix("module."): tensor for name, tensor in original.items()}
    path = str(tmp_path / "original.pth")
    torch.save(original, path)
    loaded = load_network(model, path, sha256_of(path), "cpu").state_dict()
    assert loaded.keys() == meant.keys()
    assert all(torch.equal(loaded[name], meant[name]) for name in meant)


def test_original_weights_of_another_model_are_refused(tmp_path):
    state = torch.load(save_weights(tmp_path / "a.pth"), weights_only=True)
    path = str(tmp_path / "original.pth")
    torch.save(original_of(state, "small"), path)
    with pytest.raises(BackendError, match="or of the original code; or .*flow.model=small"):
        load_network("large", path, sha256_of(path), "cpu")
