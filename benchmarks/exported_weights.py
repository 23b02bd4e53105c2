"""Exported weights in the networks of tsn-pytorch and mmaction2 -> difference of their outputs.

    python benchmarks/exported_weights.py --tsn-pytorch TREE --model-zoo TREE --mmaction2 TREE

TREE is a checkout of yjxiong/tsn-pytorch, of its submodule yjxiong/tensorflow-model-zoo.torch, or
of open-mmlab/mmaction2. Runs with random weights are written by `flowpipe weights`, loaded into the
networks that these systems build, and both sides get the same random images. tsn-pytorch was
written for PyTorch 0.2: names that have gone are given back, nothing is downloaded, and its
consensus, an old autograd function, is the mean that it computes. mmaction2 needs mmengine and
mmcv or mmcv-lite; of its packages only the modules of the network are imported.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
from live import CLASSES, make_run
from torch import Tensor, nn

from flowpipe.tsn.run_folder import LAST
from flowpipe.tsn.testing.scorer import SnippetScorer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("tsn-pytorch", "model-zoo", "mmaction2"):
        parser.add_argument(f"--{name}", type=Path, help=f"checkout of {name}")
    chosen = parser.parse_args()
    torch.manual_seed(3)
    images = torch.randn(3, 3, 224, 224)
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        if chosen.tsn_pytorch:
            for backbone, base in (("bninception", "BNInception"), ("resnet50", "resnet50")):
                run = make_run(folder / backbone, backbone, "rgb")
                state = export(run, "tsn_pytorch")["state_dict"]
                network = tsn_pytorch(chosen.tsn_pytorch, chosen.model_zoo, base)
                network.load_state_dict({key.removeprefix("module."): state[key] for key in state})
                network.eval()  # returns None there
                theirs = [network(image[None]) for image in images]
                show(f"tsn-pytorch, {base}", run, torch.cat(theirs), images)
        if chosen.mmaction2:
            run = make_run(folder / "resnet50", "resnet50", "rgb")
            network = mmaction2(chosen.mmaction2)
            network.load_state_dict(export(run, "mmaction2")["state_dict"])
            network.eval()
            theirs = network.cls_head(network.backbone(images), num_segs=1)
            show("mmaction2, ResNet-50", run, theirs, images)


def export(run: Path, system: str) -> dict[str, Any]:
    """Return the checkpoint that `flowpipe weights` writes."""
    path = run.with_name(f"{system}.pth")
    command = [sys.executable, "-m", "flowpipe", "weights", str(run), "--names", system]
    subprocess.run([*command, "-o", str(path)], check=True)
    values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return values


def show(name: str, run: Path, theirs: Tensor, images: Tensor) -> None:
    """Print the largest difference of the logits of single snippets."""
    ours = SnippetScorer(run, LAST, "cpu").model.eval()(images[:, None])
    difference = (theirs.reshape(ours.shape) - ours).abs().max()
    print(f"{name}: largest logit {ours.abs().max():.3g}, largest difference {difference:.1e}")


class Mean(nn.Module):
    """Average over segments, as tsn-pytorch's ConsensusModule computes it for ``avg``."""

    def __init__(self, consensus: str) -> None:
        super().__init__()
        assert consensus == "avg"

    def forward(self, scores: Tensor) -> Tensor:
        return scores.mean(1, keepdim=True)


def tsn_pytorch(tree: Path, zoo: Path, base: str) -> Any:
    """Return a network of models.py of tsn-pytorch for single images."""
    import torchvision
    import yaml
    from torch.nn import init
    from torch.utils import model_zoo

    package = types.ModuleType("tf_model_zoo")
    package.__path__ = [str(zoo)]
    sys.modules["tf_model_zoo"] = package
    sys.path.insert(0, str(tree))
    init.normal, init.constant = init.normal_, init.constant_  # type: ignore[attr-defined]
    load, resnet50 = yaml.load, torchvision.models.resnet50
    yaml.load = lambda stream, Loader=yaml.SafeLoader: load(stream, Loader)
    bninception = importlib.import_module("tf_model_zoo.bninception.pytorch_load").BNInception
    manifest = zoo / "bninception" / "bn_inception.yaml"
    loading = nn.Module.load_state_dict
    models = importlib.import_module("models")
    models.ConsensusModule = Mean
    try:
        model_zoo.load_url = lambda address: {}
        nn.Module.load_state_dict = lambda self, state: None  # type: ignore[assignment]
        package.BNInception = lambda: bninception(str(manifest))  # type: ignore[attr-defined]
        torchvision.models.resnet50 = lambda pretrained: resnet50()
        return models.TSN(len(CLASSES), 1, "RGB", base_model=base, partial_bn=False)
    finally:
        nn.Module.load_state_dict = loading  # type: ignore[method-assign]
        torchvision.models.resnet50, yaml.load = resnet50, load


def mmaction2(tree: Path) -> Any:
    """Return backbone and head of mmaction2's TSN, without its package's other imports."""
    for name in ("", ".models", ".models.backbones", ".models.heads", ".models.losses",
                 ".evaluation", ".utils"):  # fmt: skip
        module: Any = types.ModuleType(f"mmaction{name}")
        module.__path__ = [str(tree / f"mmaction{name}".replace(".", "/"))]
        module.ConfigType = module.ForwardResults = module.SampleList = Any
        module.get_str_type, module.top_k_accuracy = str, None
        sys.modules[module.__name__] = module
    importlib.import_module("mmaction.models.losses.cross_entropy_loss")
    network: Any = nn.Module()
    network.backbone = importlib.import_module("mmaction.models.backbones.resnet").ResNet(depth=50)
    head = importlib.import_module("mmaction.models.heads.tsn_head").TSNHead
    consensus = {"type": "AvgConsensus", "dim": 1}
    network.cls_head = head(len(CLASSES), 2048, consensus=consensus, average_clips=None)
    return network


if __name__ == "__main__":
    main()
