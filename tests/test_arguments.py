"""At most five arguments of a function or class have positions; callers name the others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from checkout import ROOT

PACKAGE = ROOT / "flowpipe"
MOST = 5
ALLOWED = {
    "show_warning": "the signature of `warnings.showwarning`, which it replaces",
    "InceptionBlock": "a row of the paper's table of channels",
    "EpochSums": "a vector, which processes add up element by element",
    "ImageRange": "a NamedTuple, whose fields have positions",
}
"""Functions and classes whose arguments all have positions, and why."""


def positional(node: ast.FunctionDef) -> list[str]:
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def fields(node: ast.ClassDef) -> list[str]:
    """The fields of a dataclass or NamedTuple that its constructor takes by position."""
    decorators = [ast.unparse(one) for one in node.decorator_list]
    made = any("dataclass" in one and "kw_only=True" not in one for one in decorators)
    if not made and "NamedTuple" not in map(ast.unparse, node.bases):
        return []
    found = []
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            kind = ast.unparse(one.annotation)
            if kind == "KW_ONLY":
                break
            if "ClassVar" not in kind and "init=False" not in ast.unparse(one):
                found.append(one.target.id)
    return found


def callables(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and positional arguments of each function and class, but for commands of click."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            if "command(" not in decorators:
                yield node.name, positional(node)
        elif isinstance(node, ast.ClassDef):
            yield node.name, fields(node)


def test_more_than_five_arguments_are_named() -> None:
    many = [
        f"{path}: {name} takes {names} by position"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, names in callables(path)
        if len(names) > MOST and name not in ALLOWED
    ]
    assert many == []


def test_every_exception_is_needed() -> None:
    many = {
        name for path in PACKAGE.rglob("*.py") for name, names in callables(path)
        if len(names) > MOST
    }  # fmt: skip
    assert many == set(ALLOWED)
