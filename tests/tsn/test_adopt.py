"""Adopted weights: the system they come from decides the network's input and its pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from command import in_process  # noqa: E402
from tiny_training import job, run  # noqa: E402

from flowpipe.errors import FormatError  # noqa: E402
from flowpipe.tsn.adopt import adopt  # noqa: E402
from flowpipe.tsn.run_folder import LAST, RunFacts, read_checkpoint  # noqa: E402
from flowpipe.tsn.testing import test as testing  # noqa: E402
from flowpipe.tsn.training.train import train  # noqa: E402
from flowpipe.tsn.weights.checkpoints import to_tsn_pytorch  # noqa: E402

Weights = Mapping[str, torch.Tensor]


def rename_for(start: str, classifier: str) -> Callable[[Weights], dict[str, torch.Tensor]]:
    """A function that gives weights the names of a system."""
    return lambda values: {
        name.replace("base_model.", start).replace("new_fc.", classifier): value
        for name, value in values.items()
    }


SAVED = {
    "tsn-pytorch": to_tsn_pytorch,
    "mmaction2": rename_for("backbone.", "cls_head.fc_cls."),
    "Caffe-TSN": rename_for("", "fc-action."),
}


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Weights]:
    """Weights of a run of each modality."""
    folder = tmp_path_factory.mktemp("trained")
    for modality in ("rgb", "flow"):
        run(job(store, folder, modality, modality=modality, backbone="tiny_bn", end=1))
    return {name: read_checkpoint(folder / name / LAST)["model"] for name in ("rgb", "flow")}


def run_adopt(store: Path, folder: Path, modality: str, theirs: Weights, *options: str) -> str:
    """What `flowpipe adopt` says of weights of a system, into ``folder / "run"``."""
    torch.save({"state_dict": dict(theirs)}, folder / "theirs.pth")
    recipe = tiny.write_recipe(folder / "recipe.yaml", "tiny_bn", dropout=0.5, end=1)
    done = in_process(
        "adopt", store, folder / "theirs.pth", "--modality", modality, "--recipe", recipe, "-o",
        folder / "run", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


# What a network of each system gets for a byte of 200, from their code at these commits.
# tsn-pytorch 2f0468e, models.py: a ResNet divides by 255, subtracts [.485, .456, .406], or .5 of
# flow, and divides by [.229, .224, .225], or their mean.
# mmaction2 4d6c934, configs/recognition/tsn: mean [123.675, 116.28, 103.53] and std [58.395, 57.12,
# 57.375]; 128 and 128 of flow.
# temporal-segment-networks 2c5e5e7, models/ucf101/*.prototxt: mean_value 104, 117, 123 of blue,
# green, red; 128 of flow.
BYTE_200 = {
    ("tsn-pytorch", "rgb"): [(200 / 255 - m) / s for m, s in (
        (0.485, 0.229), (0.456, 0.224), (0.406, 0.225))],
    ("tsn-pytorch", "flow"): [(200 / 255 - 0.5) / 0.226] * 2,
    ("mmaction2", "rgb"): [(200 - m) / s for m, s in (
        (123.675, 58.395), (116.28, 57.12), (103.53, 57.375))],
    ("mmaction2", "flow"): [0.5625] * 2,
    ("Caffe-TSN", "rgb"): [96.0, 83.0, 77.0],
    ("Caffe-TSN", "flow"): [72.0] * 2,
}  # fmt: skip
# Their training: README of tsn-pytorch; the same files of the others.
POOLING = {
    ("tsn-pytorch", "rgb"): ("tsn_pytorch", "average", 0.8),
    ("tsn-pytorch", "flow"): ("tsn_pytorch", "average", 0.7),
    ("mmaction2", "rgb"): ("mmaction2", "feature_average", 0.4),
    ("mmaction2", "flow"): ("mmaction2", "feature_average", 0.4),
    ("Caffe-TSN", "rgb"): ("caffe", "average", 0.8),
    ("Caffe-TSN", "flow"): ("caffe", "average", 0.7),
}


@pytest.mark.parametrize(("system", "modality"), BYTE_200)
def test_weights_get_what_their_system_gave_them(
    store: Path, tmp_path: Path, trained: dict[str, Weights], system: str, modality: str
) -> None:
    said = run_adopt(store, tmp_path, modality, SAVED[system](trained[modality]))
    network = testing.SnippetScorer(tmp_path / "run", LAST, "cpu")
    stream = network.facts.stream
    assert (stream.sampling, stream.consensus, stream.dropout) == POOLING[system, modality]
    channels = len(BYTE_200[system, modality])
    images = torch.full((1, network.input.read, channels, 2, 2), 200, dtype=torch.uint8)
    values = network.input.normalise(images, network.row.pixels)[0, 0, :channels, 0, 0]
    torch.testing.assert_close(values, torch.tensor(BYTE_200[system, modality]))
    assert (
        f"weights of {system}: sampling {stream.sampling}, pixels {stream.pixels}, consensus "
        f"{stream.consensus}, dropout {stream.dropout}, test protocol dense; next: flowpipe test"
    ) in said


def test_options_override_whose_weights_they_are(
    store: Path, tmp_path: Path, trained: dict[str, Weights]
) -> None:
    options = [
        "--sampling", "caffe", "--pixels", "mmaction1", "--set", "streams.flow.dropout=0.25",
        "--set", "streams.rgb.consensus=max",
    ]  # fmt: skip
    said = run_adopt(store, tmp_path, "flow", SAVED["mmaction2"](trained["flow"]), *options)
    assert (
        "sampling caffe (as given), pixels mmaction1 (as given), consensus feature_average, "
        "dropout 0.25 (as given)"
    ) in said
    stream = RunFacts.read(tmp_path / "run").stream
    assert (stream.sampling, stream.pixels, stream.dropout) == ("caffe", "mmaction1", 0.25)
    assert stream.consensus == "feature_average"


@pytest.mark.parametrize("options", [(), ("--sampling", "dense", "--pixels", "tsn_pytorch")])
def test_the_same_options_train_it_further(
    store: Path, tmp_path: Path, trained: dict[str, Weights], options: tuple[str, ...]
) -> None:
    run_adopt(store, tmp_path, "flow", SAVED["mmaction2"](trained["flow"]), *options)
    command = [
        "train", store, "--modality", "flow", "--recipe", tmp_path / "recipe.yaml", "-o",
        tmp_path / "run", "--workers", 0,
    ]  # fmt: skip
    done = in_process(*command, *options)
    assert done.returncode == 0, done.stderr
    assert "beginning with the adopted weights" in done.stderr
    facts = RunFacts.read(tmp_path / "run")
    assert facts.adopted == "mmaction2" and facts.stream.consensus == "feature_average"
    done = in_process(*command, *options)
    assert done.returncode == 0 and "the run is finished: 3 steps are done" in done.stderr
    done = in_process(*command, "--sampling", "caffe")
    assert done.returncode == 2 and "here; choose another folder" in done.stderr


def test_an_adopted_run_scores_as_the_one_that_it_came_from(store: Path, tmp_path: Path) -> None:
    first = job(store, tmp_path, "first", modality="flow", backbone="tiny_bn", end=2)
    run(first)
    theirs = to_tsn_pytorch(read_checkpoint(first.run / LAST)["model"])
    torch.save({"state_dict": theirs}, tmp_path / "theirs.pth")
    facts = RunFacts.read(first.run)
    made = adopt(tmp_path / "theirs.pth", tmp_path / "second", facts, given={"dropout"})
    assert made == RunFacts.read(tmp_path / "second") and made.adopted == "tsn_pytorch"
    one, two = (
        testing.test(testing.TestJob(store, folder), lambda done, total: None).scores
        for folder in (first.run, tmp_path / "second")
    )
    assert (one == two).all()
    # Trained further, it begins with these weights.
    told: list[str] = []
    train(job(store, tmp_path, "second", modality="flow", backbone="tiny_bn", end=2), told.append)
    assert told[0] == "beginning with the adopted weights"
    # Other classes, other channels: said, with the way out.
    torch.save({"state_dict": {**theirs, "module.new_fc.bias": torch.zeros(9)}}, tmp_path / "x.pth")
    with pytest.raises(
        FormatError,
        match=r"3 classes: new_fc.bias is \(9,\) and not \(3,\); for another backbone add --set "
        r"streams\.\w+\.backbone=NAME, and for other classes .* flowpipe train --weights$",
    ):
        adopt(tmp_path / "x.pth", tmp_path / "third", facts)
    assert not (tmp_path / "third").exists()
    adopt(tmp_path / "theirs.pth", tmp_path / "turned", facts, (2, 0, 1))
    turned = testing.test(testing.TestJob(store, tmp_path / "turned"), lambda done, total: None)
    assert (turned.scores == one[:, [2, 0, 1]]).all()


def test_a_run_of_flowpipe_brings_its_own_settings(store: Path, tmp_path: Path) -> None:
    first = job(store, tmp_path, "first", backbone="tiny_bn", dropout=0.25, end=1)
    run(first)
    facts = RunFacts.read(first.run)
    made = adopt(first.run / LAST, tmp_path / "second", facts)
    assert made.adopted == "flowpipe" and made.stream == facts.stream
