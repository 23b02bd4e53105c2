"""Examples in docstrings give what they show. Numpydoc's own validation runs in `.ci/run`."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
from checkout import ROOT

import flowpipe

WITH_EXAMPLES = sorted(
    path for path in (ROOT / "flowpipe").rglob("*.py") if ">>> " in path.read_text("utf-8")
)
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
