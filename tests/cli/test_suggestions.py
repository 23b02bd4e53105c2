"""Every place where a user chooses by name answers a mistyped one with the nearest, in one way."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from checkout import ROOT
from command import in_process
from feature_making import make_features
from store_making import RECIPE, Made, add_video, open_writer

from flowpipe import codec, optical_flow, params
from flowpipe.cli import cli
from flowpipe.cli.choices import Choice
from flowpipe.errors import FlowpipeError
from flowpipe.ops import get_ops
from flowpipe.ops.cuda.settings import VARIABLE, Settings
from flowpipe.recipes import read_recipe
from flowpipe.store import create_store, open_store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of one video, a folder of videos and a list of wrong columns."""
    folder = tmp_path_factory.mktemp("place")
    create_store(
        folder / "store", recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={"dataset": "folder", "root": "/videos"}, class_names=("a", "b", "c", "d"),
    )  # fmt: skip
    with open_writer(folder / "store" / "shards" / "shard-000000000000.h5") as writer:
        add_video(writer, Made(folder / "store"), "walking", 4, np.random.default_rng(0))
        writer.publish()
    make_features(folder / "f.h5")
    (folder / "videos").mkdir()
    (folder / "videos" / "v.mp4").write_bytes(b"")
    (folder / "split.csv").write_text("path,splt\nvideos/v.mp4,train1\n")
    (folder / "list.csv").write_text("path,split\nvideos/v.mp4,train1\n")
    (folder / "scores.txt").write_text("walking 1 2 3 4\n")
    (folder / "section.yaml").write_text("extrakt: {bound: 20}\n")
    return folder


EXTRACT = "extract --videos {p}/videos --out {p}/s"
LINES = {
    # what is chosen: command line, in which {p} is the folder above, and what is suggested
    "command": ("extrat", "extract"),
    "subcommand": ("recipe lst", "list"),
    "option": ("info {p}/store --jsn", "--json"),
    "option of a subcommand": ("bench flow --repeet 2", "--repeat"),
    "--dataset": ("extract --dataset ucf11 --root {p} --out {p}/s", "ucf101"),
    "--recipe": (f"{EXTRACT} --recipe ufc101", "ucf101"),
    "--modalities": (f"{EXTRACT} --modalities rgb,flwo", "flow"),
    "--only": ("extract --videos {p}/list.csv --out {p}/s --only trian1", "train1"),
    "--list": (f"{EXTRACT} --list tst={{p}}/list.csv", "test"),
    "--retry": (f"{EXTRACT} --retry corupt", "corrupt"),
    "--set": (f"{EXTRACT} --set bond=3", "bound"),
    "--set of a section": (f"{EXTRACT} --set flow.epsilonn=3", "epsilon"),
    "--set of a codec": (f"{EXTRACT} --set codecs.rgb=jpg", "jpeg"),
    "--set of a flow": (f"{EXTRACT} --set flow=farnebak", "farneback"),
    "--set of a value": (f"{EXTRACT} --set flow.variant=opencv44", "opencv4"),
    "column of a list": ("extract --videos {p}/split.csv --out {p}/s", "split"),
    "section of a recipe": ("recipe check {p}/section.yaml", "extract"),
    "name of a recipe": ("recipe show ufc101", "ucf101"),
    "parameter of flow": ("flow {p}/list.csv {p}/list.csv -o {p}/x.png --set wraps=2", "warps"),
    "video of info": ("info {p}/store walkin", "walking"),
    "video of show": ("show {p}/store walkin -o {p}/x.png", "walking"),
    "modality of export": ("export {p}/store {p}/e --layout mmaction2 --modalities flwo", "flow"),
    "split of export": ("export {p}/store {p}/e --layout mmaction2 --only trian1", "train1"),
    "split of evaluate": (
        "evaluate {p}/store {p}/scores.txt --protocol accuracy --split trian1", "train1"
    ),
    "split of detections": ("evaluate {p}/store {p}/scores.txt --split trian1", "train1"),
    "split of localise": ("localise {p}/f.h5 -o x.json --split trian1", "train1"),
    "--streams": ("localise {p}/f.h5 -o x.json --streams rgb,fow", "flow"),
    "check of selftest": ("selftest --device cpu --only quantize", "quantise"),
    "row of bench flow": ("bench flow --only cv2-diss", "cv2-dis"),
}  # fmt: skip


@pytest.mark.parametrize("chosen", LINES)
def test_a_mistyped_name_gets_the_nearest(chosen: str, place: Path) -> None:
    line, nearest = LINES[chosen]
    done = in_process(*(word.replace("{p}", str(place)) for word in line.split()))
    assert done.returncode == 2, done.stderr
    assert " is unknown; did you mean " in done.stderr, done.stderr
    suggested = done.stderr.partition("did you mean ")[2].partition("?")[0].split(" or ")
    assert nearest in suggested, done.stderr


TRAINING = {
    "--checkpoint": ("weights {p}/videos --names mmaction2 -o x.pth --checkpoint bset", "best"),
    "--set of train": (
        "train {p}/store --modality rgb -o {p}/run --set streams.rgb.segmnts=3", "segments"
    ),
    "stream of a recipe": (
        "train {p}/store --modality rgb -o {p}/run --set streams.rbg.segments=3", "rgb"
    ),
    "backbone": (
        "train {p}/store --modality rgb -o {p}/run --set streams.rgb.backbone=resnet51", "resnet50"
    ),
}  # fmt: skip


@pytest.mark.parametrize("chosen", TRAINING)
def test_a_mistyped_name_of_training_gets_the_nearest(chosen: str, place: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    line, nearest = TRAINING[chosen]
    done = in_process(*(word.replace("{p}", str(place)) for word in line.split()))
    assert done.returncode == 2 and f"did you mean {nearest}?" in done.stderr, done.stderr


NAMED = {"NAME", "LIST", "NAME|FILE", "REASON|all", "KEY=VALUE", "SPLIT=FILE"}
"""Metavars of options that take names."""
FREE = {
    # options that take any name, or none
    ("import", "dataset"): "names the data set of a new store",
    ("features", "layer"): "needs a network: tests/tsn/features/test_extract.py tries it",
    ("draw", "names"): "needs a trained run: tests/tsn/testing/test_class_images.py tries it",
    ("fuse", "weights"): "numbers",
    ("localise", "weights"): "numbers",
    ("localise", "thresholds"): "numbers",
    ("evaluate", "tiou"): "numbers",
    ("predict", "weights"): "numbers",
}


def options(command: click.Command, name: str = "") -> list[tuple[str, click.Parameter]]:
    if not isinstance(command, click.Group):
        return [(name, one) for one in command.params]
    context = click.Context(command)
    found = []
    for each in command.list_commands(context):
        below = command.get_command(context, each)
        assert below is not None
        found += options(below, f"{name} {each}".strip())
    return found


def test_every_option_with_fixed_values_suggests_the_nearest() -> None:
    pytest.importorskip("torch", reason="needs torch")
    chosen = [(name, one) for name, one in options(cli) if isinstance(one.type, click.Choice)]
    assert len(chosen) > 20
    for name, option in chosen:
        assert isinstance(option.type, Choice), (name, option.name)
        for value in option.type.choices:
            with pytest.raises(click.UsageError) as caught:
                option.type.convert(f"{value}{value[-1]}", option, click.Context(cli))
            assert f"{max(option.opts, key=len)} '{value}" in caught.value.message
            known = caught.value.message.partition("is unknown; ")[2]
            assert value in known if len(option.type.choices) <= 12 else "did you mean" in known


def test_every_option_that_takes_names_is_tried_above() -> None:
    pytest.importorskip("torch", reason="needs torch")
    lines = [line for line, _ in (*LINES.values(), *TRAINING.values())]
    tried = {word for line in lines for word in line.split() if word.startswith("--")}
    for name, option in options(cli):
        named = isinstance(option, click.Option) and option.metavar in NAMED
        if named and (name, option.name) not in FREE:
            assert tried.intersection(option.opts), (name, option.name)


def test_names_of_the_library_get_the_nearest(place: Path, monkeypatch: Any) -> None:
    store, image = open_store(place / "store"), np.zeros((20, 20), np.uint8)

    def settings() -> None:
        monkeypatch.setenv(VARIABLE, "stepps=3")
        Settings.from_environment()

    for call, nearest in (
        (lambda: optical_flow(image, image, flow="farnebak"), "farneback"),
        (lambda: optical_flow(image, image, wraps=3), "warps"),
        (lambda: optical_flow(image, image, variant="opencv44"), "opencv4"),
        (lambda: optical_flow(image, image, device="cdua"), "cuda"),
        (lambda: get_ops("refrence"), "reference"),
        (lambda: get_ops("cpu", isa="baselin"), "baseline"),
        (lambda: store.snippet("walking", "flwo", 0, 1), "flow"),
        (lambda: store.column("walking", "flow", "cliped"), "clipped"),
        (lambda: read_recipe("ufc101"), "ucf101"),
        (lambda: codec.decode([b"P5 1 1 255 0"], 1, "rwa"), "raw"),
        (settings, "steps"),
    ):
        with pytest.raises((FlowpipeError, ValueError, KeyError)) as caught:
            call()
        assert f"did you mean {nearest}?" in str(caught.value), caught.value


def test_names_of_a_training_set_get_the_nearest(place: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    from flowpipe import SnippetDataset
    from flowpipe.tsn.network.backbones import build

    for wrong, nearest in (
        ({"modality": "flwo"}, "flow"),
        ({"split": "trian1"}, "train1"),
        ({"sampling": "tsn_pytroch"}, "tsn_pytorch"),
        ({"samples": "vidoes"}, "videos"),
    ):
        with pytest.raises(FlowpipeError, match=f"did you mean {nearest}"):
            SnippetDataset(place / "store", **{"modality": "flow", **wrong})
    with pytest.raises(FlowpipeError, match="did you mean resnet50"):
        build("resnet51")


def test_only_one_module_words_suggestions() -> None:
    """No other module compares spellings, asks ``did you mean``, or says ``is unknown; ``."""
    for path in sorted((ROOT / "flowpipe").rglob("*.py")):
        if path == ROOT / "flowpipe" / "words.py":
            continue
        text = path.read_text(encoding="utf-8")
        assert "import difflib" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "did you mean" not in node.value, path
        inside = path.name in ("params.py", "recipes.py")  # keys and sections of recipes
        assert inside or " is unknown; " not in text, path
        assert path.name == "choices.py" or "click.Choice" not in text, path
