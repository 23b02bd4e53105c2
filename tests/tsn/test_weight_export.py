"""A run as a checkpoint of tsn-pytorch and mmaction2: it loads by their names, and gives the same.

Their networks are written here anew by their names alone, from models.py of tsn-pytorch 2f0468e,
and resnet.py and tsn_head.py of mmaction2 4d6c934.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import in_process  # noqa: E402
from tiny_training import job, run  # noqa: E402
from torch import nn  # noqa: E402

from flowpipe.tsn import run_folder  # noqa: E402
from flowpipe.tsn.adopt import THEIRS, adopt  # noqa: E402
from flowpipe.tsn.data.inputs import InputSpec  # noqa: E402
from flowpipe.tsn.network.backbones import build  # noqa: E402
from flowpipe.tsn.network.backbones.bninception import BNInception  # noqa: E402
from flowpipe.tsn.network.model import TSN, make_model  # noqa: E402
from flowpipe.tsn.run_folder import LAST, RunFacts, read_checkpoint  # noqa: E402
from flowpipe.tsn.weights.checkpoints import to_mmaction2  # noqa: E402


class ConvModule(nn.Module):
    """mmcv's: a convolution, its normalisation, perhaps ReLU."""

    def __init__(self, *sizes: int, relu: bool = True, **options: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*sizes, bias=False, **options)
        self.bn = nn.BatchNorm2d(sizes[1])
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.conv(x))
        return torch.relu(x) if self.relu else x


class Block(nn.Module):
    """mmaction2's BasicBlock, and its Bottleneck in the style of PyTorch."""

    def __init__(self, inputs: int, width: int, stride: int, deep: bool) -> None:
        super().__init__()
        outputs = 4 * width if deep else width
        if deep:
            self.conv1 = ConvModule(inputs, width, 1)
            self.conv2 = ConvModule(width, width, 3, stride=stride, padding=1)
            self.conv3 = ConvModule(width, outputs, 1, relu=False)
        else:
            self.conv1 = ConvModule(inputs, width, 3, stride=stride, padding=1)
            self.conv2 = ConvModule(width, width, 3, padding=1, relu=False)
        self.deep = deep
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = ConvModule(inputs, outputs, 1, stride=stride, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.conv2(self.conv1(x))
        made = self.conv3(made) if self.deep else made
        return torch.relu(made + (x if self.downsample is None else self.downsample(x)))


class MMAction2(nn.Module):
    """Recognizer2D with a ResNet and a TSNHead."""

    def __init__(self, depth: int, channels: int, classes: int) -> None:
        super().__init__()
        repeats = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
        deep = depth >= 50
        parts = OrderedDict(
            conv1=ConvModule(channels, 64, 7, stride=2, padding=3),
            maxpool=nn.MaxPool2d(3, 2, 1),
        )
        inputs = 64
        for number, count in enumerate(repeats):
            blocks = []
            for k in range(count):
                stride = 2 if number and not k else 1
                blocks.append(Block(inputs, 64 * 2**number, stride, deep))
                inputs = 64 * 2**number * (4 if deep else 1)
            parts[f"layer{number + 1}"] = nn.Sequential(*blocks)
        self.backbone = nn.Sequential(parts)
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(inputs, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # All snippets and crops of a video: their features are averaged, then classified.
        return self.cls_head.fc_cls(self.backbone(images).mean((2, 3)).mean(0, keepdim=True))


class TSNPyTorch(nn.Module):
    """Its TSN: the last layer of the backbone is dropout, a new one classifies."""

    def __init__(self, arch: str, channels: int, classes: int) -> None:
        super().__init__()
        if arch == "BNInception":
            self.base_model, features = BNInception(), 1024
            self.base_model.conv1_7x7_s2 = nn.Conv2d(channels, 64, 7, 2, 3)
        else:
            models = pytest.importorskip("torchvision.models", reason="needs torchvision")
            self.base_model = getattr(models, arch)()
            features = self.base_model.fc.in_features
            self.base_model.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
            self.base_model.fc = nn.Dropout(0.7)
        self.new_fc = nn.Linear(features, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.new_fc(self.base_model(images)).mean(0, keepdim=True)


@pytest.fixture(scope="module")
def tiny_run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny network on flow."""
    wanted = job(store, tmp_path_factory.mktemp("tiny"), modality="flow", end=1)
    run(wanted)
    return wanted.run


def make_run(tiny_run: Path, folder: Path, backbone: str, modality: str, **stream: object) -> TSN:
    """Make ``folder / "run"`` a run of random weights, and return its network."""
    facts = RunFacts.read(tiny_run)
    facts = replace(
        facts, modality=modality, stored=modality,
        stream=replace(facts.stream, backbone=backbone, **stream),
    )  # fmt: skip
    torch.manual_seed(5)
    network, row = build(backbone, "random")
    channels = InputSpec(modality, facts.stream.snippet_length, modality).channels
    model = make_model(network, row, len(facts.class_names), channels, facts.stream)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # else all networks would normalise alike
            for value in (module.weight.data, module.bias.data, module.running_mean):
                value.uniform_(0.5, 1)
            module.running_var.uniform_(1, 2)
    nn.init.normal_(model.new_fc.weight)
    facts.write(folder / "run")
    run_folder.save(folder / "run" / LAST, {"model": model.state_dict(), "best": 0.5, "rows": [{}]})
    return model.eval()


def export(folder: Path, system: str) -> tuple[dict[str, object], str]:
    """The file that `flowpipe weights` writes, and what it says."""
    out = folder / f"{system}.pth.tar"
    done = in_process("weights", folder / "run", "--names", system, "-o", out)
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True), done.stderr


def assert_adopted_back(folder: Path, system: str, model: TSN) -> None:
    facts = RunFacts.read(folder / "run")
    adopt(folder / f"{system}.pth.tar", folder / "back", facts, given=THEIRS)
    again = read_checkpoint(folder / "back" / LAST)["model"]
    own = model.state_dict()
    assert again.keys() == own.keys() and all(torch.equal(again[n], own[n]) for n in own)


@pytest.mark.parametrize(
    ("backbone", "modality", "expected"),
    [
        ("bninception", "flow", "(q - 128) / 1"),
        ("resnet18", "rgb", "RGB, (q - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]"),
    ],
)
def test_tsn_pytorch_loads_a_run(
    tiny_run: Path, tmp_path: Path, backbone: str, modality: str, expected: str
) -> None:
    model = make_run(tiny_run, tmp_path, backbone, modality)
    saved, said = export(tmp_path, "tsn_pytorch")
    assert set(saved) == {"state_dict", "epoch", "arch", "best_prec1"}
    assert (saved["epoch"], saved["best_prec1"]) == (1, 50.0)
    with torch.device("meta"):  # every value comes from the file
        theirs = TSNPyTorch(saved["arch"], model.channels, 3)
    # As test_models.py does.
    values = {".".join(n.split(".")[1:]): v for n, v in saved["state_dict"].items()}
    theirs.load_state_dict(values, assign=True)
    x = torch.randn(2, model.channels, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x), model(x[None]), rtol=1e-4, atol=1e-4)
    assert "with the names of tsn-pytorch" in said and said.endswith(f"; input {expected}\n")
    assert_adopted_back(tmp_path, "tsn_pytorch", model)


@pytest.mark.parametrize(
    ("depth", "modality", "consensus"),
    [(18, "flow", "average"), (50, "rgb", "feature_average")],
)
def test_mmaction2_loads_a_run(
    tiny_run: Path, tmp_path: Path, depth: int, modality: str, consensus: str
) -> None:
    pytest.importorskip("torchvision", reason="needs torchvision")
    model = make_run(
        tiny_run, tmp_path, f"resnet{depth}", modality, consensus=consensus, pixels="mmaction2"
    )
    saved, said = export(tmp_path, "mmaction2")
    assert saved["meta"]["dataset_meta"]["classes"] == ["dark", "middle", "bright"]
    with torch.device("meta"):  # every value comes from the file
        theirs = MMAction2(depth, model.channels, 3)
    theirs.load_state_dict(saved["state_dict"], assign=True)
    x = torch.randn(2, model.channels, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x), model(x[None]), rtol=1e-4, atol=1e-4)
    normalised = "(q - 128) / 128" if modality == "flow" else "RGB, (q - [123.675, 116.28, 103.53])"
    assert f"; input {normalised}" in said
    assert_adopted_back(tmp_path, "mmaction2", model)


def test_parts_that_the_other_system_lacks_are_refused(store: Path, tmp_path: Path) -> None:
    def refuse(system: str, **changes: object) -> str:
        facts = RunFacts.read(wanted.run)
        path = wanted.run / run_folder.RUN_FILE
        path.unlink()
        replace(facts, stream=replace(facts.stream, **changes)).write(wanted.run)
        done = in_process("weights", wanted.run, "--names", system, "-o", tmp_path / "x.pth")
        assert done.returncode == 2 and not (tmp_path / "x.pth").exists()
        return done.stderr

    wanted = job(store, tmp_path, end=1)
    run(wanted)
    assert "mmaction2 has no bninception, which" in refuse("mmaction2", backbone="bninception")
    assert "tsn-pytorch has no vgg16, which" in refuse("tsn_pytorch", backbone="vgg16")
    assert "has no tiny, which" in refuse("tsn_pytorch", backbone="tiny")
    checkpoint = read_checkpoint(wanted.run / LAST)
    checkpoint["model"]["consensus.weight"] = torch.ones(3)
    run_folder.save(wanted.run / LAST, checkpoint)
    said = refuse("tsn_pytorch", backbone="resnet18", consensus="linear")
    assert "has no place for the weights of the consensus linear" in said
    done = in_process("weights", wanted.run, "--names", "mmaction2", "-o", tmp_path / "x.h5")
    assert done.returncode == 2 and "wanted a name that ends in .pth or .tar" in done.stderr
    with pytest.raises(Exception, match="_fc.weight is no weight of a ResNet"):
        to_mmaction2({"base_model._fc.weight": torch.zeros(1)})
