"""Tests use the public names of flowpipe: what is behind them may change without the tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from checkout import ROOT

FOREIGN = {
    "_exit": "os._exit ends a process at once, as a kill does",
    "_iterator": "a DataLoader of torch ends its workers only there",
    "_shutdown_workers": "a DataLoader of torch ends its workers only there",
    "_dynamo": "torch._dynamo counts the graphs that torch compiles",
    "_local_scalar_dense": "the operation of torch that reads a tensor's value",
    "_DropoutNd": "the base of torch's dropout layers",
    "_get_val_indices": "a method of the original tsn-pytorch, compared with ours",
}
"""Private name of another project -> why a test needs it."""
CHANGES = ("setattr", "getattr", "delattr", "hasattr")


def private_names(source: str) -> Iterator[str]:
    """Yield the private names that a test takes from objects and modules other than its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found = [] if ast.unparse(node.value) in ("self", "cls") else [node.attr]
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in CHANGES:
            texts = (a.value for a in node.args if isinstance(a, ast.Constant))
            found = [text for text in texts if isinstance(text, str)]
        else:
            continue
        for name in found:
            last = name.rpartition(".")[2]
            if last.startswith("_") and not last.startswith("__"):
                yield last


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ops._schedule.steps", ["_schedule"]),
        ("from flowpipe.store.verify import _Child", ["_Child"]),
        ("monkeypatch.setattr(cache, '_PAUSES_S', 1)", ["_PAUSES_S"]),
        ("monkeypatch.setattr('flowpipe.remote.cache._PAUSES_S', 1)", ["_PAUSES_S"]),
        ("self._own + cls._own + cache.__name__", []),
    ],
)
def test_a_private_name_is_found_however_it_is_reached(line: str, names: list[str]) -> None:
    assert list(private_names(line)) == names


def test_no_test_reaches_into_private_names() -> None:
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in tests
        for name in private_names(path.read_text(encoding="utf-8"))
        if name not in FOREIGN
    ]
    assert len(tests) > 100 and not found
