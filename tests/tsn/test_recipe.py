"""TrainRecipe: a recipe that cannot be trained is refused with its mistake and its place."""

from __future__ import annotations

import pytest

from flowpipe import params
from flowpipe.errors import RecipeError
from flowpipe.recipes import known_names, read_recipe
from flowpipe.tsn.recipe import StreamParams, TrainRecipe


def build(**values):
    return params.build(TrainRecipe, values, where="train")


def test_streams_take_their_defaults_one_by_one():
    made = build(streams={"rgb": {"segments": 5}, "flow": {}}, fusion={"flow": 2})
    assert made.streams == {"rgb": StreamParams(segments=5), "flow": StreamParams()}
    assert made.fusion == {"flow": 2.0}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"streams": {"sound": {}}}, "known: rgb, flow"),
        ({"streams": {}}, "streams must be some of"),
        ({"streams": ["rgb"]}, "train.streams must be a section of keys"),
        ({"streams": {"rgb": {"backbone": "resnet55"}}}, "did you mean resnet50?"),
        ({"streams": {"rgb": {"backbone": "alexnet"}}}, "did you mean googlenet"),
        ({"streams": {"rgb": {"segments": 0}}}, "train.streams.rgb: segments"),
        ({"streams": {"rgb": {"dropout": 1.0}}}, "dropout in [0, 1)"),
        (
            {"streams": {"rgb": {"consensus": "top_k", "segments": 2}}},
            "top_k 3 of 2 segments is impossible",
        ),
        ({"streams": {"rgb": {"schedule": {"lr": 0.0}}}}, "train.streams.rgb.schedule: wanted lr"),
        ({"streams": {"rgb": {"schedule": {"lr_steps": [60, 30]}}}}, "lr_steps must increase"),
        (
            {"streams": {"rgb": {"schedule": {"lr_steps": [90]}}}},
            "got [90]; set lr_steps too, to []",
        ),
        ({"streams": {"rgb": {"schedule": {"batch_size": 0}}}}, "at least 1"),
        ({"streams": {"rgb": {"schedule": {"optimiser": "adam"}}}}, "did you mean adamw?"),
        ({"streams": {"rgb": {"schedule": {"betas": [0.9]}}}}, "two numbers in [0, 1)"),
        ({"streams": {"rgb": {"schedule": {"betas": [0.9, 1]}}}}, "two numbers in [0, 1)"),
        ({"streams": {"rgb": {"schedule": {"warmup": 80}}}}, "warmup must lie in [0, end = 80)"),
        ({"streams": {"rgb": {"schedule": {"warmup_factor": 2}}}}, "warmup_factor in [0, 1]"),
        (
            {"streams": {"rgb": {"schedule": {"lr_policy": "cosine", "lr_steps": [40]}}}},
            "cosine has no steps, got lr_steps [40]; set lr_steps to []",
        ),
        ({"streams": {"rgb": {"augment": {"scales": [1.2]}}}}, "scales must be in (0, 1]"),
        (
            {"streams": {"rgb": {"augment": {"crops": 7}}}},
            "crops must be one of 5, 13, random, resized",
        ),
        ({"streams": {"rgb": {"augment": {"area": [0.5]}}}}, "area must be two increasing"),
        ({"streams": {"rgb": {"augment": {"area": [0.5, 1.5]}}}}, "in (0, 1], got [0.5, 1.5]"),
        ({"streams": {"rgb": {"augment": {"aspect": [2, 1]}}}}, "aspect must be two increasing"),
        (
            {"streams": {"rgb": {"loss": {"label_smoothing": 1}}}},
            "label_smoothing must be in [0, 1)",
        ),
        (
            {"streams": {"rgb": {"loss": {"name": "bce", "label_smoothing": 0.1}}}},
            "rgb.loss: label_smoothing works with cross_entropy only; set it to 0 for bce",
        ),
        ({"streams": {"rgb": {"schedule": {"ema": 1}}}}, "ema must be in [0, 1)"),
        ({"streams": {"rgb": {"augment": {"mixup": -1}}}}, "mixup must not be negative"),
        (
            {"streams": {"rgb": {"augment": {"mixup": 1}, "schedule": {"batch_size": 1}}}},
            "mixup mixes videos of a batch; set schedule.batch_size to 2",
        ),
        ({"streams": {"rgb": {"augment": {"colour_jitter": {"hue": 0.6}}}}}, "[0, 0.5]"),
        (
            {
                "streams": {"flow": {"augment": {"colour_jitter": {"hue": 0.1}}}},
                "fusion": {"flow": 1},
            },
            "streams.flow.augment.colour_jitter: flow has no colours to jitter; remove it",
        ),
        (
            {
                "streams": {"flow": {"init_stream": "rgb_diff"}, "rgb_diff": {}},
                "fusion": {"flow": 1},
            },
            "streams.flow.init_stream must be a stream that stands before flow in the recipe, got "
            "rgb_diff; before it: none",
        ),
        ({"streams": {"rgb": {"input_size": 16}}}, "input_size must be 0 or at least 32 pixels"),
        ({"test": {"snippets": 0}}, "train.test: snippets"),
        ({"test": {"windows": [0]}}, "train.test: snippets and windows"),
        ({"fusion": {"flow": 1}}, "fusion must weigh some of the streams rgb"),
        ({"fusion": {"rgb": 0}}, "above 0"),
        ({"streams": {"rgb": {}, "flow": {}}, "fusion": {"rgb": 1, "flow": -1}}, "from 0 up"),
        ({"fusion": {"rgb": float("nan")}}, "from 0 up"),
        ({"fusion": {"rgb": float("inf")}}, "from 0 up"),
        ({"test": {"rate_hz": float("nan")}}, "rate_hz must be positive and finite"),
        ({"test": {"rate_hz": float("inf")}}, "rate_hz must be positive and finite"),
        ({"test": {"rate_hz": 0}}, "rate_hz must be positive and finite"),
        ({"test": {"top_k": -1}}, "top_k must be 0 or more"),
        ({"test": {"protocol": "mtwi", "consensus": "linear"}}, "mtwi has windows"),
        ({"splits": [1, 1]}, "splits must be different numbers"),
        ({"splits": []}, "splits must be"),
    ],
)
def test_recipes_that_cannot_be_trained_are_refused(values, says):
    with pytest.raises(RecipeError) as caught:
        build(**values)
    assert says in str(caught.value)


def test_timm_s_models_are_taken_by_name():
    assert StreamParams(backbone="timm:convnext_tiny").backbone == "timm:convnext_tiny"


def test_cosine_needs_no_steps():
    made = build(streams={"rgb": {"schedule": {"lr_policy": "cosine", "end": 20}}})
    assert made.streams["rgb"].schedule.end == 20


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"augment": {"crops": "resized", "scales": [1]}}, "augment.scales has no effect with aug"),
        ({"augment": {"crops": "resized", "area": [0.5, 1]}}, None),
        ({"augment": {"crops": "13", "aspect": [1, 1]}}, "augment.aspect has no effect with aug"),
        ({"augment": {"area": [0.5, 1]}}, "augment.area has no effect with augment.crops 13"),
        ({"schedule": {"betas": [0.8, 0.9]}}, "schedule.betas has no effect with schedule.opt"),
        ({"schedule": {"optimiser": "adamw", "momentum": 0.8}}, "schedule.momentum has no effect"),
        ({"schedule": {"lr_policy": "cosine", "lr_decay": 0.5}}, "schedule.lr_decay has no effect"),
        ({"schedule": {"warmup_factor": 0.5}}, "schedule.warmup_factor has no effect with"),
        ({"schedule": {"warmup": 3, "warmup_factor": 0.5}}, None),
        ({"top_k": 2}, "top_k has no effect with consensus average"),
        ({"consensus": "top_k", "top_k": 2}, None),
    ],
)
def test_a_setting_without_effect_is_reported(values, said):
    lines = build(streams={"rgb": values}).streams["rgb"].without_effect()
    assert len(lines) == (said is not None)
    assert not lines or lines[0].startswith(said)


@pytest.mark.parametrize("name", known_names())
def test_every_setting_of_our_recipes_has_an_effect(name):
    train = read_recipe(name).build()[1]
    assert train is not None
    assert [line for stream in train.streams.values() for line in stream.without_effect()] == []
