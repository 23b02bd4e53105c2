"""The law of tables: modalities and data sets are told apart by their rows alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from checkout import ROOT

from flowpipe.codec import CODECS
from flowpipe.datasets import DATASETS
from flowpipe.extraction.planes import MAKERS
from flowpipe.modality import MODALITIES

PACKAGE = ROOT / "flowpipe"


def python_below(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tells_modalities_apart(source: str, *, keys: bool = True) -> list[str]:
    """Lines where code asks for the name or the channels of a modality.

    With `keys`, dictionaries with modalities as keys too. A key flow alone is none of them: it is a
    section of the recipe as well.
    """
    found = tells_names_apart(source, set(MODALITIES), {"flow"}, keys=keys)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            whole = any(isinstance(v, ast.Constant) and type(v.value) is int for v in sides)
            if whole and any(is_channels(side) for side in sides):
                found.append(f"line {node.lineno} compares a number of channels")
    return found


def tells_names_apart(
    source: str, names: set[str], not_alone: set[str], *, keys: bool = True
) -> list[str]:
    """Lines that compare something with a name or, with `keys`, have it as a key.

    A key of `not_alone` counts if another name stands beside it.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        elif keys and isinstance(node, ast.Dict):
            asked = [key for key in node.keys if key]
        elif keys and isinstance(node, ast.Call) and ast.unparse(node.func) == "dict":
            asked = [ast.Constant(keyword.arg) for keyword in node.keywords]
        elif keys and isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            asked = [node.slice]
        is_key = not isinstance(node, ast.Compare | ast.MatchValue)
        there = {text for value in asked for text in texts_of(value)} & names
        if there - (not_alone if is_key else set()):
            found.append(f"line {node.lineno} tells {', '.join(map(str, there))} apart by name")
    return found


def is_channels(node: ast.expr) -> bool:
    """Whether an expression is a name or an attribute such as ``row.channels``."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.lower().endswith("channels")


def texts_of(value: ast.expr) -> set[object]:
    """Constants of an expression, or of the members of a tuple, list or set."""
    members = value.elts if isinstance(value, ast.Tuple | ast.List | ast.Set) else [value]
    return {each.value for each in members if isinstance(each, ast.Constant)}


def test_modalities_are_told_apart_in_one_table() -> None:
    """Benchmarks may hold arrays of some modalities by name."""
    paths = python_below("flowpipe", "pipelines", "benchmarks")
    paths.remove(PACKAGE / "modality.py")
    found = [
        f"{path}: {line}"
        for path in paths
        for line in tells_modalities_apart(
            path.read_text(encoding="utf-8"), keys=(ROOT / "benchmarks") not in path.parents
        )
    ]
    assert len(paths) > 300 and found == []


@pytest.mark.parametrize(
    "planted",
    [
        'if name == "rgb": pass',
        'stored = [m for m in streams if m != "rgb_diff"]',
        'if row.name in ("flow", "warped_flow"): pass',
        'match name:\n    case "flow": pass',
        "if row.channels == 2: pass",
        "shape = 3 if 3 == MODALITIES[name].channels else 1",
        "if in_channels > 2: pass",
        'BYTES = {("rgb", "jpeg"): 0.35, ("flow", "jpeg"): 0.08}',
        'STEMS = {"warped_flow": "warp"}',
        'STEMS = {"flow": "flow_x", "rgb": "img"}',
        "LENGTHS = dict(rgb=1, flow=5)",
        'makers["rgb_diff"] = differences',
    ],
)
def test_the_law_on_modalities_finds_what_breaks_it(planted: str) -> None:
    assert tells_modalities_apart(planted)


@pytest.mark.parametrize(
    "harmless",
    [
        'values = {**values, "flow": {"name": "opencv_tvl1"}}',
        'streams: tuple[str, ...] = ("rgb", "flow")',
        "fits = channels % row.channels == 0",
        'bytes_of = frames["flow"]',
    ],
)
def test_the_law_on_modalities_lets_values_pass(harmless: str) -> None:
    assert not tells_modalities_apart(harmless)


def test_data_sets_are_told_apart_in_their_rows() -> None:
    paths = [
        path
        for path in python_below("flowpipe", "pipelines")
        if PACKAGE / "datasets" not in path.parents
    ]
    found = [
        f"{path}: {line}"
        for path in paths
        for line in tells_data_sets_apart(path.read_text(encoding="utf-8"))
    ]
    assert len(paths) > 250 and found == []


def tells_data_sets_apart(source: str) -> list[str]:
    """Lines that compare a data set with a name or have one as a key.

    Rows for videos of one's own have names that are words of other things too; these count where
    the other side names a row, a data set or the source of a store.
    """
    own = {name for name, row in DATASETS.items() if not row.options or row.own}
    found = tells_names_apart(source, set(DATASETS) - own, set())
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            texts = {text for side in sides for text in texts_of(side)}
            if texts & own and re.search(r"dataset|\brow\b|source", ast.unparse(node)):
                found.append(f"line {node.lineno} tells {texts & own} apart by name")
    return found


@pytest.mark.parametrize(
    "planted",
    [
        'if dataset == "thumos14": pass',
        'if name in ("activitynet-1.2", "activitynet-1.3"): pass',
        'COUNTS = {"ucf101": 13320}',
        'if source["dataset"] == "folder": pass',
        'base = root if row.name != "list" else root.parent',
    ],
)
def test_the_law_on_data_sets_finds_what_breaks_it(planted: str) -> None:
    assert tells_data_sets_apart(planted)


def test_the_law_on_data_sets_lets_values_pass() -> None:
    assert not tells_data_sets_apart('row = DATASETS["folder"]; is_dir = kind == "folder"')


def test_each_modality_has_its_maker_and_codec() -> None:
    framed = [row for row in MODALITIES.values() if not row.from_sound]
    assert {row.maker for row in framed} == set(MAKERS)
    assert {row.codec for row in MODALITIES.values()} <= set(CODECS)
    for row in MODALITIES.values():
        assert len(row.files) == (1 if row.is_colour else row.channels)
        assert row.difference_of in {"", *MODALITIES}
        found = re.fullmatch(row.other_stems, row.files[-1]) if row.other_stems else None
        assert found or not row.other_stems
        axis = found.groupdict().get("axis") if found else None
        assert axis == (row.planes[-1] if found and row.is_flow else None)


def attributes_by_literal(source: str) -> list[str]:
    """Lines that name an HDF5 attribute by a literal, as ``shard.attrs["seal"]``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        named: list[ast.expr] = []
        if isinstance(node, ast.Subscript) and is_attrs(node.value):
            named = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = node.args[:1] if is_attrs(node.func.value) else []
        elif isinstance(node, ast.Compare) and any(map(is_attrs, node.comparators)):
            named = [node.left]
        if any(isinstance(value, ast.Constant) for value in named):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def is_attrs(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "attrs"


@pytest.mark.parametrize(
    "path",
    [path for path in python_below("flowpipe") if PACKAGE / "features" not in path.parents],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_attributes_of_shards_are_named_in_layout(path: Path) -> None:
    """A file of features has its own format, which `features` declares."""
    assert not attributes_by_literal(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "planted",
    [
        'seal = file.attrs["seal"]',
        'group.attrs["codec"] = text',
        'recipe = shard.attrs.get("recipe", "")',
        'file.attrs.modify("seal", value)',
        'if "backend" in file.attrs: pass',
    ],
)
def test_the_law_on_attributes_finds_what_breaks_it(planted: str) -> None:
    assert attributes_by_literal(planted)
