"""Enums of the kernels' sources number their names as Python does."""

from __future__ import annotations

import re

import pytest

from flowpipe.ops import reference_homography, tables
from flowpipe.ops.cuda.kernels import folder
from flowpipe.ops.tables import COEFFICIENTS, FIELDS, SAMPLINGS, UNKNOWNS


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


@pytest.mark.parametrize(
    ("struct", "names"), [("Progress", tables.PROGRESS), ("Queue", tables.QUEUE)]
)
def test_structs_of_the_sources_have_the_fields_of_python(
    struct: str, names: tuple[str, ...]
) -> None:
    source = (folder() / "cuda/progress.cuh").read_text("utf-8")
    found = re.search(rf"struct {struct} {{(.*?)\n}};", source, re.DOTALL)
    assert found, f"no struct {struct}"
    assert tuple(re.findall(r"^ +int (\w+);", found[1], re.MULTILINE)) == names


HOMOGRAPHY = (
    "DRAWS", "MOST_DRAWS", "MISSED", "SMALLEST_DETERMINANT", "APART", "POLISHINGS", "FITS", "LANES",
)  # fmt: skip
"""Constants of the search for homographies, in the reference and in the compiled core."""


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("cuda/warp.cuh", "BORDER", tables.BORDER_PX),
        ("cuda/fields.cuh", "CHUNK", tables.CHUNK),
        ("cuda/tile.cuh", "TILE", tables.TILE_PX),
        ("cuda/tile.cuh", "ITERATIONS", tables.HALO_PX),
        ("cuda/tile.cuh", "ROWS", tables.TILE_ROWS),
        ("cpu/akaze.h", "AKAZE_BORDER", tables.AKAZE_BORDER_PX),
        ("cuda/akaze.cu", "BORDER", tables.AKAZE_BORDER_PX),
        ("cpu/akaze.h", "MLDB_WORDS", tables.MLDB_WORDS),
        ("cuda/akaze.cu", "WORDS", 2 * tables.MLDB_WORDS),
        *(("cpu/homography.h", name, getattr(reference_homography, name)) for name in HOMOGRAPHY),
    ],
)
def test_constants_of_the_sources_are_those_of_python(file: str, name: str, value: float) -> None:
    source = (folder() / file).read_text("utf-8")
    found = re.search(rf"^constexpr [^;]*?\b{name} = ([^,;]+)[,;]", source, re.MULTILINE)
    assert found, f"{file} has no constant {name}"
    lanes = 32  # of a warp
    assert eval(found[1].removesuffix("f"), {"LANES": lanes}) == value
