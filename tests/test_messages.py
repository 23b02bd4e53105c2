"""Messages of errors have the one style that CONTRIBUTING describes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from checkout import ROOT

PACKAGE = ROOT / "flowpipe"
VERBS = (
    "add|ask|begin|call|change|check|choose|close|compute|copy|delete|discard|extract|fetch|free|give|"
    "install|keep|leave|make|move|name|pass|pip|put|raise|reinstall|remove|rename|repair|replace|"
    "run|save|select|set|start|stop|take|try|unset|upgrade|use|wait|write"
)
NAMES = re.compile(r"(JPEG|NVDEC|TLS|GPU|URL|CUDA|FFmpeg|[A-Z]\w*Error)")
WRONG = {
    "begins with a capital": re.compile(r"^[A-Z]"),
    "ends with a full stop": re.compile(r"[.!]$"),
    "is two sentences": re.compile(r"[.!?] [A-Z]"),
    "separates what to do by a colon": re.compile(rf"(?<!as): (?:{VERBS})\b"),
    "says please": re.compile(r"\b[Pp]lease\b"),
    "begins with cannot: the file comes first": re.compile(r"^[Cc]annot "),
}


def text_of(node: ast.expr) -> str:
    """Return the text of a string or f-string, each value in it as {}; else nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(v) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return ""


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each message that a file raises, or fails with as click does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            call = node.exc
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fail":
            call = node
        else:
            continue
        name = ast.unparse(call.func).rpartition(".")[2]
        place = 1 if name == "broken_clause" else 0
        if name.endswith(("Error", "fail", "broken_clause")) and call.args[place:]:
            yield node.lineno, text_of(call.args[place])


def test_messages_have_one_style() -> None:
    wrong = [
        f"{path}:{line} {what}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in messages(path)
        for what, pattern in WRONG.items()
        if pattern.search(text) and not (pattern.pattern == "^[A-Z]" and NAMES.match(text))
    ]
    assert wrong == []


def test_the_messages_are_found() -> None:
    assert sum(1 for path in PACKAGE.rglob("*.py") for _ in messages(path)) > 500
