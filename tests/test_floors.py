"""The laws of the house: which part may import which, and one door per dependency."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from checkout import ROOT

PACKAGE = ROOT / "flowpipe"

ALLOWED = {
    # part of the package -> parts it may import from; each may import from itself. A part is a
    # module or a package; what lies inside a package belongs to the longest name listed here.
    "errors": set(),
    "experimental": set(),
    "distribution": set(),
    "modality": {"words"},
    "notes": set(),
    "types": {"modality"},
    "strict": {"errors"},
    "params": {"errors", "strict", "words"},
    "prefetch": set(),
    "surfaces": set(),
    "owner": set(),
    "atomic": {"errors", "owner"},
    "scratch": {"atomic", "owner"},
    "words": set(),
    "splits": set(),
    "ops": {"errors", "distribution", "surfaces", "words"},
    "remote": {"errors", "distribution", "words"},
    "video": {"types", "errors", "remote", "distribution", "words", "surfaces"},
    "codec": {"modality", "errors", "words"},
    "store": {
        "types", "modality", "errors", "strict", "params", "codec", "atomic", "owner",
        "distribution", "words", "__init__",
    },
    # video: what decodes
    "datasets": {"types", "errors", "remote", "scratch", "splits", "strict", "words", "video"},
    "flow": {
        "ops", "errors", "params", "strict", "atomic",
        "distribution", "words",
    },
    "extraction.recipe": {"flow", "codec", "video", "modality", },
    "extraction": {
        "extraction.recipe", "prefetch", "flow", "ops", "video", "codec", "types", "modality",
        "errors", "words",
    },
    "run": {
        "extraction", "extraction.recipe", "flow", "ops", "video", "store",
        "datasets", "types", "modality", "errors", "params", "remote", "owner", "scratch",
        "strict", "words", "atomic", "__init__",
    },
    "evaluation": {"types", "errors", "splits", "strict", "atomic", "words"},
    "features": {"types", "errors", "splits", "strict", "atomic", "words"},
    "tsn.recipe": {"modality", "words"},
    "tsn": {
        # what the rooms share: devices, processes, the folder of a run
        "tsn.recipe", "store", "errors", "params", "scratch", "strict", "atomic",
        "words",
    },
    "tsn.weights": {"tsn", "errors", "words"},
    "tsn.data": {
        "tsn.recipe", "store", "modality", "errors", "evaluation", "splits", "words",
    },
    "tsn.network": {
        "tsn", "tsn.recipe", "tsn.data", "tsn.weights", "store", "modality", "errors", "words",
    },
    "tsn.training": {
        "tsn", "tsn.recipe", "tsn.data", "tsn.network", "store", "errors", "evaluation", "atomic",
        "words",
    },
    "tsn.testing": {
        "tsn", "tsn.recipe", "tsn.data", "tsn.network", "tsn.training", "prefetch", "store",
        "modality", "errors", "params", "evaluation", "splits", "strict", "atomic", "words",
    },
    "tsn.features": {
        "tsn", "tsn.data", "tsn.network", "tsn.training", "tsn.testing", "tsn.weights", "features",
        "prefetch", "store", "modality", "errors", "params", "evaluation", "splits", "words",
    },
    "tsn.adopt": {
        "tsn", "tsn.recipe", "tsn.data", "tsn.network", "tsn.weights", "modality", "errors",
        "words",
    },
    "tsn.weight_export": {
        "tsn", "tsn.data", "tsn.network", "tsn.weights", "modality", "errors", "words",
    },
    "localisation": {"features", "evaluation", "tsn.testing", "errors", "words"},
    "exchange": {
        "store", "codec", "types", "modality", "errors", "params", "splits", "strict", "words",
        "atomic", "__init__",
    },
    "recipes": {"extraction.recipe", "tsn.recipe", "params", "errors", "words", },
    "report": {
        "store", "modality", "atomic",
        "notes", "words",
    },
    "diagnose.libraries": {"distribution"},
    "diagnose": {
        "diagnose.libraries", "store", "flow", "ops", "video", "datasets", "types",
        "errors", "experimental", "distribution", "surfaces", "words",
    },
    "cli": {
        "run", "report", "diagnose", "diagnose.libraries", "evaluation", "exchange", "features",
        "localisation",
        "tsn", "tsn.recipe", "tsn.data", "tsn.weights", "tsn.training", "tsn.testing", "tsn.adopt",
        "tsn.features",
        "tsn.weight_export", "extraction.recipe", "recipes", "store", "datasets", "flow", "ops",
        "prefetch",
        "video", "types", "modality", "errors", "params", "remote", "scratch",
        "splits", "strict", "atomic", "words", "distribution", "notes",
        "experimental", "__init__",
    },
    "__main__": {"cli"},
    "__init__": {"store", "flow", "tsn.data", "distribution"},
}  # fmt: skip

DOORS = {
    # dependency -> the parts that may know it
    "av": {"video", "datasets"},  # datasets: only to encode the demo clips
    "PyNvVideoCodec": {"video"},
    "h5py": {"store", "evaluation", "features"},  # files of scores, of features
    "dask": {"run"},
    "distributed": {"run"},
    "dask_cuda": {"run"},
    "click": {"cli"},
    "fsspec": {"remote"},
    "s3fs": {"remote"},
    "cupy": {"ops"},
    "torch": {"tsn"},
    "skimage": {"diagnose"},
    "yaml": {"params", "strict"},
    "scipy": {"datasets"},  # the MATLAB files of THUMOS14
    "simplejpeg": {"codec"},
    "jpeg_ls": {"codec"},
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """`x.y` of flowpipe/x/y.py, `x` of flowpipe/x/__init__.py, `__init__` of the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def part(module: str) -> str:
    """The part that a module, or a name in one, belongs to."""
    names = module.split(".")
    prefixes = (".".join(names[:count]) for count in range(len(names), 0, -1))
    return next((prefix for prefix in prefixes if prefix in ALLOWED), "__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module, or name in one of ours, that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            ours = module.split(".")[0] == "flowpipe"
            yield from (f"{module}.{alias.name}" if ours else module for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_point_downwards(path: Path) -> None:
    here = part(module_of(path))
    for module in imports(path):
        top = module.split(".")[0]
        if top == "flowpipe":
            there = part(module.removeprefix("flowpipe."))
            assert there == here or there in ALLOWED[here], f"{here} may not import {there}"
        elif top in DOORS:
            door = {here, here.split(".")[0]} & DOORS[top]
            assert door, f"{here} may not import {top}; its door is {DOORS[top]}"


def test_no_arrow_leads_back_up() -> None:
    below = {here: there - {"__init__"} for here, there in ALLOWED.items()}
    assert set(TopologicalSorter(below).static_order()) == set(ALLOWED)  # CycleError if one does


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count, but for the package's own: its names load on first use."""
    modules = {module_of(path): path for path in sources()}
    below: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {name.removeprefix("flowpipe.") for name in imports(path)}
        homes = {name if name in modules else name.rpartition(".")[0] for name in names}
        below[module] = homes & set(modules) - {module}
    TopologicalSorter(below).prepare()


def test_every_part_has_a_floor() -> None:
    modules = [module_of(path) for path in sources()]
    assert {part(module) for module in modules} == set(ALLOWED)
    homeless = [m for m in modules if m != "__init__" and part(m) == "__init__"]
    assert not homeless, homeless


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_opens_with_what_goes_in_and_out(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, "no module docstring"
    assert len(docstring.splitlines()[0]) <= 100


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_have_less_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT / "tests"))
)
def test_processes_that_tests_start_keep_their_pythonpath(path: Path) -> None:
    """It may hold the libraries: tests put folders in front of it, see checkout.python_path."""
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
