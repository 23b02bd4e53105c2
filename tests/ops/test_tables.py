"""Enums of the kernels' sources number their names as Python does."""

from __future__ import annotations

import re

import pytest

from flowpipe.ops.cuda.kernels import folder
from flowpipe.ops.tables import BORDER_PX, COEFFICIENTS, FIELDS, SAMPLINGS, UNKNOWNS


@pytest.mark.parametrize(
    ("file", "enum", "names", "count"),
    [
        ("cpu/layout.h", "Field", FIELDS, "FIELDS"),
        ("cuda/fields.cuh", "Field", UNKNOWNS, "FIELDS"),
        ("cuda/fields.cuh", "Coefficient", COEFFICIENTS, "COEFFICIENTS"),
        ("cpu/warp.h", "Sampling", SAMPLINGS, ""),
        ("cuda/warp.cuh", "Sampling", SAMPLINGS, ""),
    ],
)
def test_enums_of_the_sources_have_the_names_of_python(
    file: str, enum: str, names: tuple[str, ...], count: str
) -> None:
    source = (folder() / file).read_text("utf-8")
    found = re.search(rf"enum {enum} {{(.*?)}};", source, re.DOTALL)
    assert found, f"{file} has no enum {enum}"
    wanted = [name.upper() for name in names] + ([count] if count else [])
    assert [name.strip() for name in found[1].split(",")] == wanted


def test_the_border_of_a_packed_image_is_that_of_python() -> None:
    source = (folder() / "cuda/warp.cuh").read_text("utf-8")
    assert f"constexpr int BORDER = {BORDER_PX};" in source
