"""Rows of parametrised tests: none is overwritten by the test, so that each reaches what it is for.

Duplicate rows and keys are found by ruff (PT014, F601), functions defined twice too (F811).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from checkout import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef
SCOPES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)


def rows_of(test: Function) -> set[str]:
    """Return the names that ``pytest.mark.parametrize`` gives a test."""
    names: set[str] = set()
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.parametrize"):
            given = ast.literal_eval(mark.args[0])
            names |= {n.strip() for n in given.split(",")} if isinstance(given, str) else set(given)
    return names


def assigned_names(node: ast.AST) -> Iterator[ast.Name]:
    """Return the names that a function assigns to, without those of scopes inside of it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child
        if not isinstance(child, (*SCOPES, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from assigned_names(child)


def overwritten(text: str) -> list[str]:
    """Return ``test: name`` for each argument of a row that its test assigns to."""
    tests = [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]
    return [
        f"{test.name}: {name.id}"
        for test in tests
        for statement in test.body
        for name in assigned_names(ast.Module([statement], []))
        if name.id in rows_of(test)
    ]


def test_no_test_overwrites_its_row() -> None:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 100
    found = {str(path.relative_to(ROOT)): overwritten(path.read_text("utf-8")) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("starts = [1]", ["test_x: starts"]),
        ("if rule:\n        starts += 1", ["test_x: starts"]),
        ("for starts in rule: pass", ["test_x: starts"]),
        ("with rule as (a, starts): pass", ["test_x: starts"]),
        ("(starts := 1)", ["test_x: starts"]),
        ("other = starts", []),
        ("[starts for starts in rule]", []),
    ],
)
def test_overwritten_rows_are_found(body: str, found: list[str]) -> None:
    mark = "@pytest.mark.parametrize"
    for names in ("'rule, starts'", "('rule', 'starts')", "['rule', 'starts']"):
        text = f"{mark}({names}, [])\ndef test_x(rule, starts):\n    {body}\n"
        assert overwritten(text) == found
