"""The laws of the house: which part may import which, and one door per dependency."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

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
    "logs": {"words"},
    "splits": set(),
    "ops": {"errors", "distribution", "surfaces", "words"},
    "remote": {"errors", "distribution", "words"},
    "video": {"types", "errors", "remote", "distribution", "words", "surfaces", "atomic"},
    "audio": {"video", "types", "modality", "errors", "distribution"},
    "codec": {"modality", "errors", "words"},
    "store": {
        "types", "modality", "errors", "strict", "params", "codec", "atomic", "owner",
        "distribution", "notes", "words", "__init__",
    },
    # video: what decodes
    "datasets": {"types", "errors", "remote", "scratch", "splits", "strict", "words", "video"},
    "flow": {
        "ops", "errors", "params", "strict", "atomic",
        "distribution", "words",
    },
    "extraction.recipe": {"audio", "flow", "codec", "video", "modality", },
    "extraction": {
        "extraction.recipe", "audio", "prefetch", "flow", "ops", "video", "codec", "types",
        "modality", "errors", "words",
    },
    "run.options": {"remote", "video"},
    "run.job": {"run.options", "extraction.recipe", "datasets"},
    "run.ledger": {"store", "params", "remote", "strict", "atomic", "types", "errors"},
    "run.reconciliation": {
        "run.ledger", "store", "datasets", "remote", "types", "errors", "words",
    },
    "run.planning": {
        "run.options", "run.job", "run.ledger", "run.reconciliation", "extraction",
        "extraction.recipe", "flow", "ops", "video", "store", "datasets", "remote", "types",
        "modality", "params", "atomic", "logs", "errors", "words",
    },
    "run.worker": {
        "run.options", "run.planning", "audio", "extraction", "extraction.recipe", "flow", "ops",
        "store", "remote", "types", "modality", "params", "strict", "atomic", "owner", "logs",
        "errors", "words", "__init__",
    },
    "run.cluster": {
        "run.options", "run.worker", "ops", "params", "strict", "scratch", "logs", "errors",
        "words",
    },
    "run": {
        # the whole of a run: claim, work, progress, repair
        "run.options", "run.job", "run.ledger", "run.reconciliation", "run.planning", "run.worker",
        "run.cluster", "store", "remote", "types", "params", "strict", "atomic", "owner", "logs",
        "errors", "words",
    },
    "evaluation": {"types", "errors", "splits", "strict", "atomic", "words"},
    "features": {"types", "errors", "splits", "strict", "atomic", "words"},
    "tsn.recipe": {"modality", "words"},
    "tsn": {
        # what the rooms share: devices, processes, the folder of a run
        "tsn.recipe", "store", "modality", "errors", "params", "scratch", "strict", "atomic",
        "words",
    },
    "tsn.weights": {"tsn", "tsn.recipe", "errors", "words"},
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
        "job", "sizes", "run", "run.options", "run.planning", "run.cluster", "report", "diagnose",
        "diagnose.libraries", "evaluation", "exchange", "features", "localisation",
        "tsn", "tsn.recipe", "tsn.data", "tsn.weights", "tsn.training", "tsn.testing", "tsn.adopt",
        "tsn.features",
        "tsn.weight_export", "extraction.recipe", "recipes", "store", "datasets", "flow", "ops",
        "prefetch",
        "video", "types", "modality", "errors", "params", "remote", "scratch",
        "splits", "strict", "atomic", "words", "logs", "distribution", "notes",
        "experimental", "__init__",
    },
    "__main__": {"cli"},
    "__init__": {"store", "flow", "tsn.data", "distribution", "job", "logs"},
    "sizes": {"errors"},
    "job": {
        "run", "run.options", "run.planning", "recipes", "datasets", "extraction.recipe", "flow",
        "ops", "video", "params", "errors", "modality", "remote", "sizes", "splits", "words",
    },
}  # fmt: skip

DOORS = {
    # dependency -> the parts that may know it
    "av": {"video", "datasets"},  # datasets: only to encode the demo clips
    "PyNvVideoCodec": {"video"},
    "h5py": {"store", "evaluation", "features"},  # files of scores, of features
    "dask": {"run.cluster", "run.planning"},  # planning: cores and memory as Dask counts them
    "distributed": {"run.cluster", "run.planning"},
    "dask_cuda": {"run.cluster"},
    "click": {"cli"},
    "fsspec": {"remote"},
    "s3fs": {"remote"},
    "cupy": {"ops"},
    "torch": {"tsn", "flow"},  # flow: only RAFT, in its functions
    "torchvision": {"tsn", "flow"},
    "skimage": {"diagnose"},
    "yaml": {"params", "strict"},
    "scipy": {"datasets"},  # the MATLAB files of THUMOS14
    "librosa": {"audio"},
    "simplejpeg": {"codec"},
    "jpeg_ls": {"codec"},
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


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
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            ours = module.split(".")[0] == "flowpipe"
            yield from (f"{module}.{alias.name}" if ours else module for alias in node.names)


def test_imports_only_point_downwards() -> None:
    broken = []
    for path in sources():
        here = part(module_of(path))
        for module in imports(path):
            top = module.split(".")[0]
            if top == "flowpipe":
                there = part(module.removeprefix("flowpipe."))
                if there != here and there not in ALLOWED[here]:
                    broken.append(f"{path}: {here} may not import {there}")
            elif top in DOORS and not {here, here.split(".")[0]} & DOORS[top]:
                broken.append(f"{path}: {here} may not import {top}; its door is {DOORS[top]}")
    assert len(sources()) > 300 and broken == []


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


def test_a_module_opens_with_what_goes_in_and_out() -> None:
    docstrings = {path: ast.get_docstring(tree_of(path)) or "" for path in sources()}
    first = {path: text.partition("\n")[0] for path, text in docstrings.items()}
    assert [path for path, line in first.items() if not 0 < len(line) <= 100] == []


def test_files_have_400_lines_at_most() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert [f"{path}: {count}" for path, count in lines.items() if count > 400] == []


def test_processes_that_tests_start_keep_their_pythonpath() -> None:
    """It may hold the libraries: tests put folders in front of it, see checkout.python_path."""
    paths = sorted((ROOT / "tests").rglob("*.py"))
    replaced = [f"{path}:{line}" for path in paths for line in replaced_pythonpaths(path)]
    assert len(paths) > 200 and replaced == []


def replaced_pythonpaths(path: Path) -> Iterator[int]:
    """Yield the lines that give a process another PYTHONPATH without the tests' own."""
    for node in ast.walk(tree_of(path)):
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
            if not kept and text != "''":
                yield value.lineno


def is_pythonpath(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == "PYTHONPATH"
