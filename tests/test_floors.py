"""The laws of the house: who may import whom, one door per dependency, one table of modalities."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "flowpipe"

ALLOWED = {
    # part of the package -> parts it may import from; each may import from itself
    "errors": set(),
    "distribution": set(),
    "libraries": {"distribution"},
    "hardware": {"libraries", "ops", "words"},
    "modality": set(),
    "notes": set(),
    "types": {"modality"},
    "strict": {"errors"},
    "recipe": {"errors", "strict", "words"},
    "ahead": set(),
    "surfaces": set(),
    "owner": set(),
    "whole": {"errors", "owner"},
    "scratch": {"owner"},
    "words": set(),
    "splits": set(),
    "ops": {"types", "errors", "modality", "distribution", "surfaces"},
    "remote": {"errors", "owner", "distribution", "words"},
    "video": {"types", "errors", "remote", "distribution", "words", "surfaces"},
    "codec": {"types", "modality", "errors", "recipe"},
    "store": {
        "types", "modality", "errors", "strict", "recipe", "codec", "whole", "owner",
        "distribution", "words", "__init__",
    },
    # video: what decodes
    "datasets": {"types", "errors", "remote", "scratch", "splits", "strict", "words", "video"},
    "flow": {
        "ops", "types", "errors", "modality", "recipe", "strict", "whole", "distribution", "words",
    },
    "extract_recipe": {"flow", "codec", "video", "modality", "errors"},
    "train_recipe": {"modality", "words"},
    "recipe_file": {"extract_recipe", "train_recipe", "recipe", "errors", "words", "__init__"},
    "planes": {"ahead", "extract_recipe", "flow", "ops", "types", "errors"},
    "windows": {"types", "errors", "words"},
    "extract": {
        "extract_recipe", "planes", "windows", "ahead", "ops", "video", "codec", "types", "errors",
    },
    "run": {
        "extract", "extract_recipe", "planes", "windows", "flow", "ops", "video", "store", "codec",
        "datasets", "types", "modality", "errors", "recipe", "remote", "owner", "scratch", "strict",
        "words", "__init__",
    },
    "selftest": {"flow", "datasets", "ops", "errors", "surfaces"},
    "evaluation": {"types", "errors", "splits", "strict", "whole", "words"},
    "tsn": {
        "ahead", "store", "types", "modality", "errors", "recipe", "evaluation", "train_recipe",
        "scratch", "splits", "strict", "whole", "words", "__init__",
    },
    "exchange": {
        "store", "codec", "types", "modality", "errors", "recipe", "splits", "strict", "words",
        "__init__",
    },
    "bench": {"flow", "video", "datasets", "ops", "types", "errors", "words"},
    "report": {
        "store", "codec", "flow", "ops", "video", "types", "modality", "errors", "whole",
        "distribution", "libraries", "hardware", "notes", "words",
    },
    "cli": {
        "run", "report", "bench", "selftest", "evaluation", "exchange", "tsn", "extract_recipe",
        "recipe_file", "train_recipe", "store", "datasets", "flow", "ops", "video", "types",
        "modality", "errors", "recipe", "remote", "scratch", "splits", "whole", "words",
        "distribution", "libraries", "hardware", "notes", "__init__",
    },
    "__main__": {"cli"},
    "__init__": {"store", "flow"},
}  # fmt: skip

DOORS = {
    # dependency -> the parts that may know it
    "av": {"video", "datasets"},  # datasets: only to encode the demo clips
    "PyNvVideoCodec": {"video"},
    "h5py": {"store", "evaluation"},  # evaluation: files of scores
    "dask": {"run"},
    "distributed": {"run"},
    "dask_cuda": {"run"},
    "click": {"cli"},
    "fsspec": {"remote"},
    "s3fs": {"remote"},
    "cupy": {"ops"},
    "torch": {"tsn"},
    "skimage": {"bench"},
    "yaml": {"recipe", "strict"},
    "scipy": {"datasets"},  # the MATLAB files of THUMOS14
    "simplejpeg": {"codec"},
    "jpeg_ls": {"codec"},
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "flowpipe":
                yield from (f"flowpipe.{alias.name}" for alias in node.names)
            else:
                yield module


def target(module: str) -> str:
    """The part of the package that `flowpipe.x.y` belongs to."""
    name = module.split(".")[1] if "." in module else "__init__"
    known = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
    return name if known else "__init__"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_point_downwards(path: Path) -> None:
    here = part(path)
    for module in imports(path):
        top = module.split(".")[0]
        if top == "flowpipe":
            there = target(module)
            assert there == here or there in ALLOWED[here], f"{here} may not import {there}"
        elif top in DOORS:
            assert here in DOORS[top], f"{here} may not import {top}; its door is {DOORS[top]}"


def test_every_part_has_a_floor() -> None:
    assert {part(path) for path in sources()} <= set(ALLOWED)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modalities_are_told_apart_in_one_table(path: Path) -> None:
    if path.name == "modality.py":
        return
    names = {"rgb", "flow", "warped_flow", "rgb_diff"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            for value in (node.left, *node.comparators):
                compared = isinstance(value, ast.Constant) and value.value in names
                assert not compared, f"line {node.lineno} compares a modality's name"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_opens_with_what_goes_in_and_out(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, "no module docstring"
    assert len(docstring.splitlines()[0]) <= 100


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_of_one_room(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT / "tests"))
)
def test_what_tests_start_keeps_their_own_pythonpath(path: Path) -> None:
    """It may hold the libraries: tests put folders in front of it, see conftest.python_path."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        given: list[ast.expr] = []
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            given = [value for key, value in pairs if key and is_pythonpath(key)]
        elif isinstance(node, ast.Call):
            given = [k.value for k in node.keywords if k.arg == "PYTHONPATH"]
            given += node.args[1:] if node.args and is_pythonpath(node.args[0]) else []
        elif isinstance(node, ast.Assign):
            names = [each.slice for each in node.targets if isinstance(each, ast.Subscript)]
            given = [node.value] if any(map(is_pythonpath, names)) else []
        for value in given:
            text = ast.unparse(value)
            kept = "python_path(" in text or "PYTHONPATH" in text
            assert kept or text == "''", f"line {value.lineno} replaces PYTHONPATH"


def is_pythonpath(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == "PYTHONPATH"
