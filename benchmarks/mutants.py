"""Mutation testing: small changes of sampling, crops, pooling and fusion that no test detects.

    python benchmarks/mutants.py [--only sampling] [--share 1/2]

Each change replaces one node of a module's syntax tree: a comparison, an operator, a constant, a
condition, or a function by its opposite. For each change, a process that has imported torch and
pytest forks; the child replaces the module by the changed one and runs the module's tests until one
fails. Nothing is written to the tree. A test kills a change if it fails or does not end in a minute
of CPU time. Survivors are printed with their line. ``EQUIVALENT`` lists changes without observable
effect, each with its reason; the exit code is 1 if other changes survive.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import io
import os
import resource
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

# Imported once, so that each fork has them; nothing of flowpipe may be among them.
import cv2  # noqa: F401
import h5py  # noqa: F401
import hypothesis
import pytest
import torch
import torchvision  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 60
"""Limit of the CPU time of the tests of one change, seconds; many times what they need."""

EXAMPLES = 25
"""Examples of each property test."""

RECORDED = "tsn/test_recorded.py"
SUBJECTS = {
    "sampling": ("tsn/data/sampling.py", (RECORDED, "tsn/data/test_sampling.py"), "sampling"),
    "crops": ("tsn/data/crops.py", (RECORDED, "tsn/data/test_crops.py"), "crop or centre"),
    "consensus": ("tsn/network/consensus.py", ("tsn/network/test_consensus.py",), ""),
    "pooling": ("tsn/testing/pooling.py", ("tsn/testing/test_pooling.py",), ""),
    "mtwi": ("tsn/testing/mtwi.py", ("tsn/testing/test_mtwi.py", RECORDED), "mtwi or window"),
    "fusion": ("evaluation/fusion.py", ("evaluation/test_fusion.py", RECORDED), "fusion"),
}
"""Module, tests and their selection (``-k``), by subject."""

EQUIVALENT = {
    "sampling: return _centres(images, segments, length) if images >= length else _zeros(segments)"
    " -> return _centres(images, segments, length) if images > length else _zeros(segments)":
        "for one start both are zeros",
    "sampling: return np.array([room // 2], np.int64)"
    " -> return np.array([room / 2], np.int64)": "whole numbers are rounded down",
    "consensus: attention = torch.softmax(self.relevance(features), dim=1)"
    " -> attention = torch.softmax(self.relevance(features), dim=-1)":
        "there are two dimensions",
    "fusion: for stream, weight in zip(streams, weights, strict=True):"
    " -> for stream, weight in zip(streams, weights, strict=False):":
        "their numbers have been compared",
    "crops: for w, h in zip(widths, heights, strict=True):"
    " -> for w, h in zip(widths, heights, strict=False):":
        "both are made with as many candidates",
}  # fmt: skip
"""Survivors by ``subject: line of code -> changed line``, and why no test can detect them."""

OPPOSITES = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitXor: ast.BitAnd, ast.BitOr: ast.BitAnd, ast.MatMult: ast.Mult,
}  # fmt: skip
NAMES = {
    "min": "max", "max": "min", "floor": "ceil", "ceil": "floor", "minimum": "maximum",
    "any": "all", "all": "any", "around": "floor", "sort": "asarray", "argmax": "argmin",
    "mean": "sum", "sum": "mean", "zeros": "ones", "searchsorted": "digitize", "exp": "expm1",
}  # fmt: skip


def sites(tree: ast.AST) -> Iterator[tuple[ast.AST, str, object]]:
    """Yield (node, field, new value) of every change."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for k, operator in enumerate(node.ops):
                ops = [*node.ops]
                ops[k] = OPPOSITES[type(operator)]()
                yield node, "ops", ops
        elif (
            isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in OPPOSITES
        ):
            yield node, "op", OPPOSITES[type(node.op)]()
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, "value", not node.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield node, "value", node.value + 1
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            yield node, "op", ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node, "attr", NAMES[node.attr]
        elif isinstance(node, ast.Name) and node.id in NAMES:
            yield node, "id", NAMES[node.id]
        if isinstance(node, ast.If | ast.IfExp):
            for value in (True, False):
                yield node, "test", ast.Constant(value)


def changes(text: str) -> Iterator[tuple[int, str, str, ast.Module]]:
    """Yield line number, the line's code before and after, and the tree of every change."""
    tree = ast.parse(text)
    _strip(tree)
    for node, field, value in [*sites(tree)]:
        before = getattr(node, field)
        plain = ast.unparse(tree).splitlines()
        setattr(node, field, value)
        changed = ast.unparse(tree).splitlines()
        different = [(a, b) for a, b in zip(plain, changed, strict=True) if a != b]
        if different:
            old, new = different[0]
            yield node.lineno, old.strip(), new.strip(), copy.deepcopy(tree)
        setattr(node, field, before)


def _strip(tree: ast.AST) -> None:
    """Remove parts that tests cannot detect: docstrings, annotations, options of data classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.decorator_list = [getattr(mark, "func", mark) for mark in node.decorator_list]
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object", ast.Load())
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                argument.annotation = None
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list):
                kept = [s for s in value if not _is_text(s)]
                node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]


def _is_text(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


class ChangedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that supplies a changed module."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self.module, self.path, self.tree = module, path, tree

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name == self.module:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)
        return None

    def create_module(self, spec):  # type: ignore[no-untyped-def]
        return None

    def exec_module(self, module) -> None:  # type: ignore[no-untyped-def]
        exec(compile(ast.fix_missing_locations(self.tree), str(self.path), "exec"), vars(module))


def passes(path: Path, tree: ast.Module, tests: tuple[str, ...], chosen: str) -> bool:
    """Run tests with a changed module in a fork; True if all pass in time."""
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            sys.stdout = sys.stderr = io.StringIO()
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            sys.meta_path.insert(0, ChangedModuleFinder(module, path, tree))
            options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "-k", chosen]
            code = int(pytest.main([*options, *(str(ROOT / "tests" / name) for name in tests)]))
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def examine(subject: str, share: tuple[int, int]) -> int:
    """Print the survivors of every n-th change from the k-th on; return how many there are."""
    name, tests, chosen = SUBJECTS[subject]
    path = ROOT / "flowpipe" / name
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    _strip(tree)
    sound = passes(path, tree, tests, chosen)
    assert sound, f"the tests of {subject} fail without a change"
    made = lived = 0
    for line, old, new, changed in islice(changes(text), share[0] - 1, None, share[1]):
        made += 1
        if passes(path, changed, tests, chosen):
            key = f"{subject}: {old} -> {new}"
            reason = EQUIVALENT.get(key)
            lived += reason is None
            print(f"{name}:{line}: {old}\n    -> {new}\n    {reason or 'SURVIVED'}", flush=True)
    print(f"{subject}: {made} changes, {lived} survived without a reason", flush=True)
    return lived


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SUBJECTS, action="append")
    parser.add_argument(
        "--share", default="1/1", metavar="K/N", help="share of the changes, such as 1/2"
    )
    options = parser.parse_args()
    first, step = (int(number) for number in options.share.split("/"))
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    hypothesis.settings.register_profile("mutants", max_examples=EXAMPLES, deadline=None)
    hypothesis.settings.load_profile("mutants")
    lived = sum(examine(subject, (first, step)) for subject in options.only or SUBJECTS)
    return int(lived > 0)


if __name__ == "__main__":
    sys.exit(main())
