"""Examples in docstrings give what they show; parameters that are arrays have their shapes.

Numpydoc's own validation runs in `.ci/run`.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

import flowpipe

WITH_EXAMPLES = sorted(
    path for path in (ROOT / "flowpipe").rglob("*.py") if ">>> " in path.read_text("utf-8")
)
ARRAY = re.compile(r"(?:(?:list|Sequence|Iterable)\[)?(?:NDArray\[np\.\w+\]|Tensor(?!\w))")
"""Annotation of a parameter that is an array of one type, or several of them."""
OF_STORES = ("store/reader.py", "tsn/data/snippets.py")
"""Modules whose examples read the store ``demo-store`` in the current folder."""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small ``demo-store`` of rgb and flow."""
    pytest.importorskip("torch", reason="the store for it is made by a helper that needs torch")
    import tiny

    folder = tmp_path_factory.mktemp("examples")
    tiny.make_store(folder / "demo-store")
    return folder


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_of)
def test_examples_give_what_they_show(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.relative_to(ROOT / "flowpipe").as_posix() in OF_STORES:
        monkeypatch.chdir(request.getfixturevalue("folder"))
    done = doctest.testmod(importlib.import_module(module_of(path)))
    assert done.attempted and not done.failed


@pytest.mark.parametrize("name", [n for n in flowpipe.__all__ if n != "__version__"])
def test_each_name_of_the_package_has_an_example(name: str) -> None:
    if name.startswith("Snippet"):
        pytest.importorskip("torch", reason=f"{name} needs torch")
    assert "\nExamples\n" in inspect.getdoc(getattr(flowpipe, name))


def array_parameters(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Yield function, parameter and docstring of each described parameter that is an array."""
    for node in ast.walk(tree):
        functions = node.body if isinstance(node, ast.ClassDef | ast.Module) else []
        for function in functions:
            if not isinstance(function, ast.FunctionDef):
                continue
            owner = node if function.name == "__init__" else function
            text = (ast.get_docstring(owner) or "") if not isinstance(owner, ast.Module) else ""
            for one in function.args.args + function.args.kwonlyargs:
                annotation = ast.unparse(one.annotation) if one.annotation else ""
                if ARRAY.match(annotation) and "\nParameters\n" in text:
                    yield function.name, one.arg, text


def test_parameters_that_are_arrays_have_their_shapes() -> None:
    count, bare = 0, []
    for path in sorted((ROOT / "flowpipe").rglob("*.py")):
        for function, name, text in array_parameters(ast.parse(path.read_text("utf-8"))):
            count += 1
            if not re.search(rf"^(?:\w+, )*{name}(?:, \w+)* : .*\(.*\)", text, re.M):
                bare.append(f"{path.relative_to(ROOT)}: {function}: {name}")
    assert count > 100 and not bare
