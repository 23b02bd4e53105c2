"""Weights of other networks: what a new network takes of them, and what is refused."""

from __future__ import annotations

import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from command import FAST, in_process  # noqa: E402
from networks import assert_same_backbone, network, random_values  # noqa: E402
from tiny_training import job, run, weights  # noqa: E402

from flowpipe.datasets import demo  # noqa: E402
from flowpipe.datasets.demo.clipfile import write_clip  # noqa: E402
from flowpipe.errors import FormatError, UsageError  # noqa: E402
from flowpipe.evaluation import read_facts  # noqa: E402
from flowpipe.tsn.network.transfer import initialise_backbone  # noqa: E402
from flowpipe.tsn.run_folder import LAST, RunFacts  # noqa: E402
from flowpipe.tsn.weights.checkpoints import to_mmaction2, to_tsn_pytorch  # noqa: E402
from flowpipe.tsn.weights.files import read_weights  # noqa: E402
from flowpipe.words import count_noun  # noqa: E402

SAVED = {
    "tsn-pytorch": lambda values: {"state_dict": to_tsn_pytorch(values), "arch": "x", "epoch": 3},
    "mmaction2": lambda values: {"meta": {}, "state_dict": to_mmaction2(values)},
    "a flowpipe checkpoint": lambda values: {"model": values, "optimiser": {}},
}


@pytest.mark.parametrize("system", SAVED)
def test_the_backbone_of_any_system_is_taken(tmp_path: Path, system: str) -> None:
    backbone = "tiny_bn"
    if system == "mmaction2":
        pytest.importorskip("torchvision", reason="needs torchvision")
        backbone = "resnet18"
    tiny.register()
    values = random_values(network(backbone, classes=400)[0])
    torch.save(SAVED[system](values), tmp_path / "theirs.pth")
    model, rest = network(backbone, classes=5)
    own = {name: value.clone() for name, value in model.new_fc.state_dict().items()}
    words = initialise_backbone(model, *rest, tmp_path / "theirs.pth")
    assert_same_backbone(model, values)
    assert all(torch.equal(own[n], value) for n, value in model.new_fc.state_dict().items())
    assert system in words and "not taken: the classifier of 400 classes" in words
    assert "first layer kept" in words


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_backbone_alone_is_taken_in_the_old_form_too(tmp_path: Path, prefix: str) -> None:
    # Statistics of shape [1, C] and no counters of batches, as in the published BN-Inception.
    values = random_values(network("bninception")[0])
    old = {
        f"{prefix}{name.removeprefix('base_model.')}": value[None] if "_bn." in name else value
        for name, value in values.items()
        if name.startswith("base_model.") and not name.endswith("num_batches_tracked")
    }
    old |= {f"{prefix}fc.weight": torch.zeros(1000, 1024), f"{prefix}fc.bias": torch.zeros(1000)}
    torch.save(old, tmp_path / "bn.pth")
    model, rest = network("bninception")
    words = initialise_backbone(model, *rest, tmp_path / "bn.pth")
    assert_same_backbone(model, values)
    assert "a backbone alone; 414 weights of the backbone taken" in words
    assert words.endswith("not taken: 2 weights of the classifier")


def test_caffe_weights_of_another_data_set_are_taken(tmp_path: Path) -> None:
    values = random_values(network("bninception", "flow", 5, classes=101)[0])
    layers = {
        name.removeprefix("base_model."): name
        for name in values
        if name.startswith("base_model.") and not name.endswith("num_batches_tracked")
    }

    def layer(name: str) -> str:
        stem, _, rest = name.partition("_")
        if stem == "inception":
            block, _, rest = rest.partition("_")
            stem = f"inception_{block}"
        return f"{stem}/{rest}"

    caffe = {layer(ours): values[name] for ours, name in layers.items()}
    caffe |= {"fc-action.weight": torch.zeros(101, 1024), "fc-action.bias": torch.zeros(101)}
    torch.save(caffe, tmp_path / "caffe.pth")
    model, rest = network("bninception", "flow", 5, classes=51)
    words = initialise_backbone(model, *rest, tmp_path / "caffe.pth")
    assert_same_backbone(model, values)
    # The mean of flow is 128 for both; that of blue, green and red is not.
    assert "weights of Caffe-TSN" in words and "--pixels" not in words
    rgb = random_values(network("bninception", classes=101)[0])
    caffe = {layer(ours): rgb[name] for ours, name in layers.items()}
    torch.save(caffe, tmp_path / "caffe.pth")
    model, rest = network("bninception", classes=51)
    assert initialise_backbone(model, *rest, tmp_path / "caffe.pth").endswith(
        "expect --pixels caffe"
    )


def move_layer(tmp_path: Path, came: tuple[str, int], wanted: tuple[str, int], init: str) -> str:
    """Take a first layer from one modality and length to others; its weights and the words."""
    model, (_, _, params) = network("tiny_bn", *came)
    values = random_values(model)
    folder = tmp_path / "-".join(map(str, (*came, *wanted, init)))
    torch.save({"state_dict": to_tsn_pytorch(values)}, folder.with_suffix(".pth"))
    model, rest = network("tiny_bn", *wanted, init=init)
    words = initialise_backbone(model, *rest, folder.with_suffix(".pth"))
    assert_same_backbone(model, values, but="conv.weight")
    return values["base_model.conv.weight"], model.base_model.conv.weight.detach(), words


def test_a_first_layer_of_another_modality_begins_as_init_says(tmp_path: Path) -> None:
    tiny.register()
    for came, wanted in (
        (("rgb", 1), ("flow", 5)),
        (("rgb", 1), ("rgb_diff", 5)),
        (("flow", 5), ("rgb", 1)),
        (("flow", 5), ("rgb_diff", 5)),
        (("rgb_diff", 5), ("flow", 5)),
    ):
        old, new, words = move_layer(tmp_path, came, wanted, "cross_modality")
        torch.testing.assert_close(new, old.mean(1, keepdim=True).expand_as(new))
        assert f"the mean over {old.shape[1]} channels, for {new.shape[1]} channels" in words
        for init in ("imagenet", "random"):
            old, new, words = move_layer(tmp_path, came, wanted, init)
            assert new.std(1).min() > 0 and not torch.isclose(new.mean(), old.mean())
            assert f"random, as init is {init} (--set streams.{wanted[0]}.init=cross" in words


def test_a_first_layer_that_fits_no_modality_begins_as_init_says(tmp_path: Path) -> None:
    tiny.register()
    values = random_values(network("tiny_bn", "flow", 5)[0])
    few = values["base_model.conv.weight"][:, :5].contiguous()
    torch.save(
        {"state_dict": to_tsn_pytorch({**values, "base_model.conv.weight": few})},
        tmp_path / "five.pth",
    )
    for modality in ("rgb", "flow", "rgb_diff"):
        model, rest = network("tiny_bn", modality, 5, init="cross_modality")
        words = initialise_backbone(model, *rest, tmp_path / "five.pth")
        new = model.base_model.conv.weight.detach()
        torch.testing.assert_close(new, few.mean(1, keepdim=True).expand_as(new))
        assert "the mean over 5 channels" in words


@pytest.mark.parametrize("init", ["cross_modality", "imagenet"])
def test_a_first_layer_of_the_same_modality_is_kept(tmp_path: Path, init: str) -> None:
    tiny.register()
    for modality, length in (("rgb", 1), ("flow", 5), ("rgb_diff", 5)):
        old, new, words = move_layer(tmp_path, (modality, length), (modality, length), init)
        assert torch.equal(old, new) and "first layer kept" in words
    old, new, _ = move_layer(tmp_path, ("flow", 5), ("warped_flow", 5), init)
    assert torch.equal(old, new)
    old, new, _ = move_layer(tmp_path, ("rgb", 1), ("rgb_diff", 1), init)
    assert torch.equal(old, new)


@pytest.mark.parametrize("modality", ["flow", "rgb_diff"])
@pytest.mark.parametrize("lengths", [(5, 7), (5, 1), (1, 5)])
def test_another_snippet_length_sees_the_same_in_equal_images(
    tmp_path: Path, modality: str, lengths: tuple[int, int]
) -> None:
    tiny.register()
    old, new, words = move_layer(
        tmp_path, (modality, lengths[0]), (modality, lengths[1]), "imagenet"
    )
    if old.shape[1] != 3:  # of one difference the weights could be those of rgb
        image = torch.randn(1, new.shape[1] // lengths[1], 5, 5)
        before, after = (
            torch.nn.functional.conv2d(image.repeat(1, length, 1, 1), weight)
            for length, weight in zip(lengths, (old, new), strict=True)
        )
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
        before, after = (count_noun(length, "image") for length in lengths)
        assert f"the mean over {before}, for {after}" in words


def test_weights_that_do_not_fit_are_refused_with_their_kind(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="needs torchvision")
    tiny.register()
    values = random_values(network("resnet18")[0])
    torch.save({"state_dict": to_mmaction2(values)}, tmp_path / "r.pth")
    model, rest = network("bninception")
    with pytest.raises(FormatError) as caught:
        initialise_backbone(model, *rest, tmp_path / "r.pth")
    words = str(caught.value)
    assert f"{tmp_path / 'r.pth'} does not fit bninception" in words
    assert "it has weights of mmaction2 with the names of resnet18" in words
    assert "414 weights missing (conv1_7x7_s2.weight" in words
    assert "100 unknown (conv1.weight" in words
    model, rest = network("tiny_bn")
    own = {n.removeprefix("base_model."): v for n, v in random_values(model).items() if "base" in n}
    torch.save({**own, "bn.weight": torch.zeros(9)}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"bn.weight is \(9,\) and not \(8,\)"):
        initialise_backbone(model, *rest, tmp_path / "w.pth")
    torch.save({**own, "conv.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"conv.weight is \(8, 3, 7, 7\) and not \(8, 3, 5, 5"):
        initialise_backbone(model, *rest, tmp_path / "w.pth")


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    for content in (b"no weights", b"extract: {modalities: [rgb]}", b"", b"e", b"PK\x03\x04"):
        (tmp_path / "text.pth").write_bytes(content)
        with pytest.raises(FormatError, match="text.pth cannot be read as weights: wanted a"):
            read_weights(tmp_path / "text.pth")
    with pytest.raises(FormatError, match="no weights at"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(FormatError, match="is a folder without run.json: wanted a run"):
        read_weights(tmp_path)
    for content in ([1, 2], {"state_dict": {"x": 1}}, {"model": [1]}, 7):
        torch.save(content, tmp_path / "list.pth")
        with pytest.raises(FormatError, match="list.pth holds no weights by name"):
            read_weights(tmp_path / "list.pth")


class HistoryBuffer:
    """Keeps values of a log, with arrays and bound methods, as mmengine's does."""

    def __init__(self) -> None:
        self._log_history = np.array([1.5, 0.5])
        self._methods = {"mean": self.mean}

    def mean(self) -> float:
        return float(self._log_history.mean())


def test_weights_beside_objects_of_other_packages_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Checkpoints that mmengine writes while it trains have its buffers; it need not be there.
    name = "mmengine_history_buffer"
    module = types.ModuleType(name)
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setattr(HistoryBuffer, "__module__", name)
    monkeypatch.setitem(sys.modules, name, module)
    values = {"backbone.conv.weight": torch.ones(2)}
    torch.save(
        {"state_dict": values, "message_hub": {"loss": HistoryBuffer()}}, tmp_path / "epoch.pth"
    )
    torch.save(HistoryBuffer(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    monkeypatch.undo()
    assert name not in sys.modules
    with pytest.raises(FormatError, match=rf"torch says: Unsupported global: GLOBAL {name}[^\n]+$"):
        read_weights(tmp_path / "old.pth")
    read = read_weights(tmp_path / "epoch.pth")
    assert torch.equal(read["backbone.conv.weight"], torch.ones(2)) and len(read) == 1


class Bomb:
    """What a hostile checkpoint could hold."""

    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_file_of_weights_is_never_executed(tmp_path: Path, capsys) -> None:
    torch.save({"state_dict": {"x": Bomb()}}, tmp_path / "bomb.pth")
    with pytest.raises(FormatError):
        read_weights(tmp_path / "bomb.pth")
    torch.save({"state_dict": {"x": torch.ones(1)}, "beside": Bomb()}, tmp_path / "bomb.pth")
    assert list(read_weights(tmp_path / "bomb.pth")) == ["x"]
    assert "executed" not in capsys.readouterr().out


def test_a_run_of_another_backbone_is_named(store: Path, tmp_path: Path) -> None:
    first = job(store, tmp_path, "first", backbone="tiny_bn", end=1)
    run(first)
    second = job(store, tmp_path, "second", backbone="tiny", end=1, weights=first.run)
    with pytest.raises(FormatError, match=r"a run of tiny_bn, and this stream trains tiny; --set"):
        run(second)
    assert not second.run.exists()


def test_pixels_of_the_run_that_weights_come_from_are_named(store: Path, tmp_path: Path) -> None:
    first = job(store, tmp_path, "first", modality="flow", backbone="tiny_bn", end=1)
    streams = dict(first.recipe.streams)
    streams["flow"] = replace(streams["flow"], pixels="mmaction2")
    run(replace(first, recipe=replace(first.recipe, streams=streams)))
    options = {"modality": "flow", "backbone": "tiny_bn", "end": 1, "weights": first.run / LAST}
    told = run(job(store, tmp_path, "second", **options))
    assert "a run of tiny_bn on flow" in told[0] and told[0].endswith("expect --pixels mmaction2")


def test_a_recipe_begins_a_stream_with_the_run_of_another_beside_it(
    store: Path, tmp_path: Path
) -> None:
    second = job(store, tmp_path, "flow", modality="flow", end=1, stream={"init_stream": "rgb"})
    with pytest.raises(UsageError, match=f"searched beside {second.run}, and none lies there; "):
        run(second)
    first, other = job(store, tmp_path, "first", end=1).run, tmp_path / "of another split"
    run(job(store, tmp_path, "first", end=1))
    replace(RunFacts.read(first), split=2).write(other)
    shutil.copy(first / LAST, other / LAST)
    assert run(second)[0].startswith(f"{first / LAST}: the weights of a run of tiny on rgb; ")
    shutil.copytree(first, tmp_path / "twin")
    run(second)  # has weights of its own
    third = replace(second, run=tmp_path / "third")
    with pytest.raises(UsageError, match=r"and 2 lie there: .*first, .*twin; train it first"):
        run(third)
    assert str(tmp_path / "twin") in run(replace(third, weights=tmp_path / "twin"))[0]


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two classes of the demo set."""
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "list.csv").open("w") as lines:
        lines.write("video_id,path,label,split\n")
        for name in demo.CLASS_NAMES[:2]:
            for clip, split in enumerate(("train1", "train1", "test1")):
                video_id = f"{name}_{clip:02d}"
                write_clip(
                    folder / f"{video_id}.mp4", demo.clean_frames(video_id, numbers=range(8))
                )
                lines.write(f"{video_id},{video_id}.mp4,{name},{split}\n")
    done = in_process(
        "extract", "--videos", folder / "list.csv", "--out", folder / "store", "--modalities",
        "rgb,flow", "--workers", 1, *FAST,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "store"


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_a_network_of_one_data_set_goes_on_with_another(
    store: Path, demo_store: Path, tmp_path: Path, modality: str
) -> None:
    first = job(store, tmp_path, "first", modality="rgb", backbone="tiny_bn", end=2)
    run(first)
    recipe, second = tmp_path / "recipe.yaml", tmp_path / "second"
    options = [f"streams.{modality}.{words}" for words in (
        "schedule.lr=1e-30", "schedule.weight_decay=0", "init=cross_modality"
    )]  # fmt: skip
    done = in_process(
        "train", demo_store, "--recipe", recipe, "--workers", 0, "--modality", modality, "-o",
        second, "--weights", first.run, *(word for one in options for word in ("--set", one)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    layer = "kept" if modality == "rgb" else "the mean over 3 channels, for 4 channels"
    assert (
        f"{first.run / LAST}: the weights of a run of tiny_bn on rgb; 6 weights of the backbone "
        f"taken, first layer {layer}; not taken: the classifier of 3 classes\n"
    ) in done.stderr
    taken, own = weights(first.run), weights(second)
    before, after = (values["base_model.conv.weight"].mean(1) for values in (taken, own))
    torch.testing.assert_close(before, after)
    assert torch.equal(taken["base_model.conv.bias"], own["base_model.conv.bias"])
    assert len(own["new_fc.bias"]) == 2
    done = in_process("test", demo_store, second, "-o", tmp_path / "scores.h5")
    assert done.returncode == 0, done.stderr
    assert read_facts(tmp_path / "scores.h5")["class_names"] == list(demo.CLASS_NAMES[:2])
