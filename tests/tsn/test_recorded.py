"""Sampling, crops, pixels, integration and fusion equal those of the original code (recorded/)."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowpipe.evaluation import Scores, fuse
from flowpipe.recipes import read_recipe
from flowpipe.tsn import recipe
from flowpipe.tsn.data.crops import crop_offsets, crops_of, resized_crop, sizes
from flowpipe.tsn.data.normalisation import CAFFE
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES, Draw, images_of
from flowpipe.tsn.recipe import AugmentParams
from flowpipe.tsn.testing import mtwi

SIDE = 224


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, np.ndarray]:
    with np.load(Path(__file__).parent / "recorded" / "originals.npz") as file:
        return {name: file[name] for name in file.files}


def numpys(seed: int) -> Draw:
    """Return the draws of ``np.random.randint`` after a seed."""
    state = np.random.RandomState(seed)
    return lambda bound, count: state.randint(bound, size=count)


def caffes(seed: int) -> Draw:
    """Return Caffe's draws: the remainder of a number that the generator gave."""
    state = np.random.RandomState(seed)
    return lambda bound, count: state.randint(2**31 - 1, size=count) % bound


def test_the_recording_names_its_origin(recorded) -> None:
    assert json.loads(str(recorded["origin"])) == {
        "tsn_pytorch": ["yjxiong/tsn-pytorch", "2f0468e049760530b4995bf72c8a512623929c39"],
        "tsn": ["yjxiong/temporal-segment-networks", "2c5e5e7c9c4f552cfde46fa90a4c0c230d857afe"],
        "caffe": ["yjxiong/caffe", "9831a2b4d67e3f99418b6f2f99b6dde716853672"],
        "mmaction2": ["open-mmlab/mmaction2", "4d6c93474730cad2f25e51109adcf96824efc7a3"],
    }


@pytest.mark.parametrize(
    ("name", "phase", "theirs", "failing"),
    [  # the last: cases in which the original fails, because a video is shorter than a snippet
        ("tsn_pytorch", "train", "tsn_pytorch/train", 15),
        ("tsn_pytorch", "val", "tsn_pytorch/val", 0),
        ("tsn_pytorch", "test", "tsn_pytorch/test", 35),
        ("caffe", "train", "caffe/train", 63),
        ("caffe", "val", "caffe/val", 63),
        ("caffe", "test", "caffe/test", 0),
        ("mmaction2", "train", "mmaction2/train", 0),
        ("mmaction2", "val", "mmaction2/test", 0),  # its configurations validate in test mode
        ("mmaction2", "test", "mmaction2/test", 0),
        ("dense", "train", "dense/train", 0),
        ("dense", "val", "dense/test", 0),
        ("dense", "test", "dense/test", 0),
    ],
)
def test_sampling(recorded, name: str, phase: str, theirs: str, failing: int) -> None:
    cases, counts, frames = (
        recorded[f"sampling/{theirs}/{key}"] for key in ("cases", "counts", "frames")
    )
    rule, ends, failed = SAMPLING_STRATEGIES[name], np.cumsum(counts), 0
    draws: Callable[[int], Draw] = caffes if name == "caffe" else numpys
    for seed, (case, stop, count) in enumerate(zip(cases.tolist(), ends, counts, strict=True)):
        images, segments, length = case
        if phase == "train":
            starts = rule.train(images, segments, length, draws(seed))
        else:
            starts = getattr(rule, phase)(images, segments, length)
        if not count:
            assert images < length and not starts.any(), case
            failed += 1
            continue
        made = images_of(starts, length, images, rule.tail).ravel()
        assert made.tolist() == frames[stop - count : stop].tolist(), case
    assert failed == failing and len(cases) - failed > 200


@pytest.mark.parametrize("system", ["tsn_pytorch", "caffe", "mmaction2"])
def test_crops_of_training(recorded, system: str) -> None:
    # All that can be drawn, as often as it can be drawn.
    theirs: defaultdict[tuple[int, ...], Counter[tuple[int, ...]]] = defaultdict(Counter)
    for *setting, x, y, w, h in recorded[f"{system}/crops"].tolist():
        theirs[tuple(setting)][x, y, w, h] += 1
    assert len(theirs) == 40
    for (width, height, scales, count), rows in theirs.items():
        ours = Counter(
            (x, y, w, h)
            for w, h in sizes(width, height, (1, 0.875, 0.75, 0.66)[:scales], SIDE)
            for x, y in crop_offsets(count, width, height, (w, h))
        )
        assert ours == rows, (width, height, scales, count)


def test_resized_crops_of_training(recorded) -> None:
    class Numbers:
        """What mmaction2 draws after a seed: sizes from NumPy, places from Python."""

        def __init__(self, seed: int) -> None:
            self.uniform, self.whole = np.random.RandomState(seed).uniform, random.Random(seed)

        def integers(self, bound: int) -> int:
            return self.whole.randint(0, bound - 1)

    ranges = (
        AugmentParams(crops="resized"),
        AugmentParams(crops="resized", area=(0.3, 0.5), aspect=(0.5, 2.0)),
    )
    rows = recorded["mmaction2/resized_crops"].tolist()
    assert len(rows) == 200
    for number, seed, width, height, *box in rows:
        crop = resized_crop(ranges[number], width, height, Numbers(seed))  # type: ignore[arg-type]
        ours = [crop.x, crop.y, crop.width, crop.height]
        assert ours == box and {type(k) for k in ours} == {int}, (number, seed, width, height)
    squares = [row for row in rows if row[6] == row[7] == min(row[2:4])]
    assert any(max(row[2:4]) > 5 * min(row[2:4]) for row in squares)  # no candidate fits


def test_centres(recorded) -> None:
    for width, height, *both in recorded["centres"].tolist():
        (crop,) = crops_of(1, width, height, SIDE)
        for x, y in (both[:2], both[2:]):
            # The others round half a pixel down; torchvision, and so tsn-pytorch, to even.
            assert (x, y) == ((width - SIDE) // 2, (height - SIDE) // 2)
            assert crop.x - x in ((0,) if width % 2 == 0 else (0, 1))
            assert crop.y - y in ((0,) if height % 2 == 0 else (0, 1))


@pytest.mark.parametrize(("system", "sizes"), [(0, 10), (1, 1), (2, 10)])
def test_ten_crops(recorded, system: int, sizes: int) -> None:
    rows = recorded["ten_crops"]
    theirs: defaultdict[tuple[int, int], list[tuple[int, ...]]] = defaultdict(list)
    for width, height, *crop in rows[rows[:, 0] == system, 1:].tolist():
        theirs[width, height].append(tuple(crop))
    assert len(theirs) == sizes
    for size, wanted in theirs.items():
        ours = [(crop.x, crop.y, int(crop.flip)) for crop in crops_of(10, *size, SIDE)]
        assert sorted(ours) == sorted(wanted) and len(wanted) == 10, size


@pytest.mark.parametrize(("system", "turned"), [("tsn_pytorch", "x"), ("mmaction2", "mmaction2")])
def test_mirrored_flow(recorded, system: str, turned: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    from flowpipe.tsn.data.crops import Crop
    from flowpipe.tsn.network.augment import crop_and_resize

    flow = torch.from_numpy(recorded["flips/flow"])[..., :4]  # a square of the right edge's size
    wanted = recorded[f"flips/{system}"][..., -4:]  # its mirror image
    made = crop_and_resize(flow.clone(), Crop(0, 0, 4, 4, flip=True), 4, turned=turned)
    assert np.array_equal(made.numpy(), wanted)


PIXELS = [
    ("tsn_pytorch/BNInception/RGB", "rgb", "bninception", "backbone"),
    ("tsn_pytorch/BNInception/Flow", "flow", "bninception", "backbone"),
    ("tsn_pytorch/BNInception/RGBDiff", "rgb_diff", "bninception", "backbone"),
    ("tsn_pytorch/BNInception/RGBDiff/test", "rgb_diff", "bninception", "backbone"),
    ("tsn_pytorch/BNInception/RGB", "rgb", "resnet50", "tsn_pytorch"),
    ("tsn_pytorch/resnet50/RGB", "rgb", "resnet50", "backbone"),
    ("tsn_pytorch/resnet50/Flow", "flow", "resnet50", "backbone"),
    ("tsn_pytorch/resnet50/RGBDiff", "rgb_diff", "resnet50", "backbone"),
    ("tsn_pytorch/resnet50/RGBDiff/test", "rgb_diff", "resnet50", "backbone"),
    ("mmaction2/RGB", "rgb", "resnet50", "mmaction2"),
    ("mmaction2/Flow", "flow", "resnet50", "mmaction2"),
]


@pytest.mark.parametrize(("theirs", "modality", "backbone", "pixels"), PIXELS)
def test_pixels(recorded, theirs: str, modality: str, backbone: str, pixels: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("torchvision", reason="needs torchvision")
    from flowpipe.tsn.data.inputs import input_spec
    from flowpipe.tsn.network.backbones import build

    shown = {"rgb": "RGB", "flow": "Flow", "rgb_diff": "RGBDiff"}[modality]
    images = torch.from_numpy(recorded[f"pixels/{shown}"])[None]
    source = input_spec(modality, 1 if modality == "rgb" else 5, ("rgb", "flow"))
    _, row = build(backbone, "random", pixels=pixels)
    made = source.normalise(images, row.pixels, frames_as_colours=theirs.endswith("/test"))
    np.testing.assert_allclose(made[0, 0], recorded[f"pixels/{theirs}"], rtol=1e-5, atol=2e-6)


def test_means_of_caffe(recorded) -> None:
    assert recorded["pixels/caffe/rgb_mean"].reshape(3, 3).tolist() == [list(CAFFE.mean)] * 3
    assert recorded["pixels/caffe/flow_mean"].tolist() == [CAFFE.flow_mean]
    assert (CAFFE.scale, CAFFE.std, CAFFE.flow_std, CAFFE.bgr) == (1, (1, 1, 1), 1, True)


def snippet_cases(recorded) -> Iterator[tuple[int, np.ndarray]]:
    """The number of each case of integration, and its scores."""
    for seed, snippets in enumerate(recorded["integration/snippets"].tolist()):
        yield seed, np.random.RandomState(seed).normal(size=(snippets, 3, 4))


def test_window_integration_of_the_authors_code(recorded) -> None:
    for seed, scores in snippet_cases(recorded):
        together = mtwi.aggregate(scores, (1, 2, 4, 8, 16), "code")
        np.testing.assert_allclose(together, recorded["integration/windows"][seed], rtol=1e-12)
        alone = [mtwi.aggregate(scores, (n,), "code") for n in (1, 2, 3, 4, 5, 8, 16)]
        np.testing.assert_allclose(alone, recorded["integration/window"][seed], rtol=1e-12)


def test_fusion(recorded) -> None:
    for seed, scores in snippet_cases(recorded):
        ids = tuple(str(k) for k in range(len(scores)))
        total = fuse([Scores("a", ids, scores[:, 0]), Scores("b", ids, scores[:, 1])], (1, 1.5))
        wanted = recorded["integration/fusion"][seed]
        np.testing.assert_allclose(total.values[-1], wanted, rtol=1e-12)


def test_mean_of_snippets(recorded) -> None:
    pytest.importorskip("torch", reason="needs torch")
    from flowpipe.tsn.network.consensus import Average
    from flowpipe.tsn.testing.pooling import Pooling
    from flowpipe.tsn.testing.scorer import SnippetScores

    pooling = Pooling(recipe.TestParams(), recipe.StreamParams(), Average())
    for seed, scores in snippet_cases(recorded):
        made = pooling(SnippetScores(scores, scores[:, 0]))
        np.testing.assert_allclose(made, recorded["integration/mean"][seed], rtol=1e-12)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_the_recipe_of_kinetics_is_mmaction2_s(recorded, stream: str) -> None:
    train = read_recipe("kinetics400").build()[1]
    assert train is not None
    ours, theirs = train.streams[stream], json.loads(str(recorded[f"mmaction2/{stream}"]))
    schedule, head = ours.schedule, theirs["model"]["cls_head"]
    steps: dict[str, dict[str, dict[str, Any]]] = {
        phase: {step["type"]: step for step in reversed(theirs[f"{phase}_pipeline"])}
        for phase in ("train", "val", "test")
    }
    sampled = steps["train"]["SampleFrames"]

    assert ours.backbone == f"resnet{theirs['model']['backbone']['depth']}"
    assert ours.init == "imagenet" and "pretrained" in theirs["model"]["backbone"]
    assert (ours.sampling, ours.pixels, ours.partial_bn) == ("mmaction2", "mmaction2", False)
    assert ours.dropout == head["dropout_ratio"] and ours.classifier_std == head["init_std"]
    assert ours.consensus == "feature_average" and head["consensus"]["type"] == "AvgConsensus"
    assert (sampled["num_clips"], sampled["clip_len"]) == (ours.segments, ours.snippet_length)

    wrapper, optimizer = theirs["optim_wrapper"], theirs["optim_wrapper"]["optimizer"]
    assert schedule.optimiser == "sgd" and optimizer["type"] == "SGD"
    assert wrapper.keys() == {"optimizer", "clip_grad"}
    assert (schedule.lr, schedule.momentum) == (optimizer["lr"], optimizer["momentum"])
    assert schedule.weight_decay == optimizer["weight_decay"] and schedule.multipliers == "uniform"
    assert schedule.clip_gradient == wrapper["clip_grad"]["max_norm"]
    (steps_down,) = theirs["param_scheduler"]  # no warm-up
    assert list(schedule.lr_steps) == steps_down["milestones"]
    assert schedule.lr_decay == steps_down["gamma"] and steps_down["by_epoch"]
    assert (schedule.unit, schedule.end) == ("epochs", theirs["train_cfg"]["max_epochs"])
    assert schedule.batch_size == theirs["auto_scale_lr"]["base_batch_size"]

    assert ours.augment.flip and steps["train"]["Flip"]["flip_ratio"] == 0.5
    assert not ours.augment.antialias  # mmcv resizes by OpenCV's bilinear filter
    if ours.augment.crops == "resized":
        assert steps["train"]["RandomResizedCrop"] == {"type": "RandomResizedCrop"}
        assert ours.augment == AugmentParams(crops="resized", antialias=False)
    else:
        crop = steps["train"]["MultiScaleCrop"]
        assert list(ours.augment.scales) == crop["scales"] and crop["max_wh_scale_gap"] == 1
        assert (ours.augment.crops, crop["random_crop"]) == ("5", False)
        assert "num_fixed_crops" not in crop  # whose default is 5

    assert train.test.protocol == "dense"
    assert train.test.snippets == steps["test"]["SampleFrames"]["num_clips"]
    assert train.test.crops == "10" and "TenCrop" in steps["test"]
