"""ExtractRecipe: settings left to a modality are written out, so equal meaning is one digest."""

from __future__ import annotations

from typing import Any

import pytest

from flowpipe import params
from flowpipe.codec import JpegLsParams, JpegParams
from flowpipe.errors import RecipeError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.modality import MODALITIES

ALL = [name for name, row in MODALITIES.items() if not row.from_sound]


def build(**values: Any) -> ExtractRecipe:
    return params.build(ExtractRecipe, {"modalities": ALL, **values})


@pytest.mark.parametrize("asked", ["jpeg", {"name": "jpeg", "quality": 90}])
def test_naming_the_codec_keeps_the_modality_s_subsampling(asked):
    made = build(codecs={name: asked for name in ALL})
    quality = 95 if asked == "jpeg" else 90
    assert made.codecs == {
        "rgb": JpegParams(quality, "420"),
        "flow": JpegParams(quality, "gray"),
        "warped_flow": JpegParams(quality, "gray"),
        "rgb_diff": JpegParams(quality, "444"),
    }


def test_the_digest_holds_what_auto_became():
    plain = params.plain(build(codecs={"rgb_diff": "jpeg"}))
    assert plain["codecs"]["rgb_diff"] == {"name": "jpeg", "quality": 95, "subsampling": "444"}
    assert "auto" not in params.canonical(build())
    same = [
        build(),
        build(codecs={"rgb_diff": "jpeg"}),
        build(codecs={"rgb_diff": {"name": "jpeg", "subsampling": "auto"}, "flow": "jpeg"}),
        build(codecs={"rgb_diff": {"name": "jpeg", "subsampling": 444}}),
        build(codecs={"flow": {"name": "jpeg", "subsampling": "420"}}),  # one gray image anyway
        params.build(ExtractRecipe, params.plain(build())),  # as a store gives it back
    ]
    assert len({params.digest(made) for made in same}) == 1
    other = build(codecs={"rgb_diff": {"name": "jpeg", "subsampling": "420"}})
    assert params.digest(other) != params.digest(same[0])


def test_a_chosen_subsampling_is_kept():
    made = build(codecs={"rgb": {"name": "jpeg", "subsampling": 444}, "flow": "jpegls"})
    assert made.codecs["rgb"] == JpegParams(95, "444")
    assert made.codecs["flow"] == JpegLsParams()


def test_gray_colour_is_refused_before_anything_is_extracted():
    with pytest.raises(RecipeError, match="rgb_diff is stored in colour"):
        build(codecs={"rgb_diff": {"name": "jpeg", "subsampling": "gray"}})
