"""JSON or YAML text that anybody may have written -> plain values of bounded size and depth.

Every JSON or YAML file that flowpipe reads passes through here. A file that is too large, nested
too deeply, expanded by aliases or no regular file ends in the error of its kind, with its name:
never in a RecursionError, a hang, or gigabytes of memory.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable
from typing import Any

import yaml

from flowpipe.errors import FlowpipeError, FormatError, RecipeError, storage_reason

MOST_BYTES = 256 << 20
"""No JSON file in use is larger; the annotations of ActivityNet have 12 MB."""
MOST_YAML_BYTES = 256 << 10
"""PyYAML reads about 200 KB per second, and a recipe has 2 KB."""
MOST_YAML_VALUES = 20_000
"""Values of a YAML file, an aliased one counted wherever it stands."""
MOST_DEPTH = 64
"""Levels of nesting; Python's own limit is reached at about a thousand."""

_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "text"}


def read_text(
    path: str | os.PathLike[str],
    *,
    error: type[FlowpipeError] = FormatError,
    most_bytes: int = MOST_BYTES,
) -> str:
    """Return the text of a regular UTF-8 file of bounded size.

    Parameters
    ----------
    path : path
        File to read.
    error : type of FlowpipeError
        Raised with the file's name for anything but a file that is not there.
    most_bytes : int
        Largest size.

    Returns
    -------
    str
        The text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FlowpipeError
        Of the kind `error`: a folder, pipe or device, a file that is too large, not UTF-8 or cannot
        be read; with the reason ``io`` if the storage failed.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise error(f"{os.fspath(path)} is not a regular file")
            content = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as cause:
        words = getattr(cause, "strerror", None) or cause
        raise error(
            f"{os.fspath(path)} cannot be read: {words}", reason=storage_reason(cause)
        ) from cause
    if len(content) > most_bytes:
        raise error(f"{os.fspath(path)} is larger than the {most_bytes} bytes it may have")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise error(
            f"{os.fspath(path)} is not UTF-8: byte {cause.object[cause.start]:#04x} at offset "
            f"{cause.start}; save it as UTF-8"
        ) from cause


def read_json(
    path: str | os.PathLike[str],
    *,
    kind: type | None = dict,
    error: type[FlowpipeError] = FormatError,
    most_bytes: int = MOST_BYTES,
) -> Any:
    """Read a JSON file; see `read_text` and `parse_json` for the errors.

    Parameters
    ----------
    path : path
        File to read.
    kind : type, optional
        Type that the outermost value must have; None for any.
    error : type of FlowpipeError
        Error to raise.
    most_bytes : int
        Largest size.

    Returns
    -------
    object
        Values.
    """
    text = read_text(path, error=error, most_bytes=most_bytes)
    return parse_json(text, os.fspath(path), kind=kind, error=error)


def parse_json(
    text: str | bytes,
    name: str,
    *,
    kind: type | None = dict,
    error: type[FlowpipeError] = FormatError,
) -> Any:
    """Return the values of JSON text.

    Parameters
    ----------
    text : str or bytes
        Bytes are UTF-8.
    name : str
        What the text is, for messages: a file, or a file and a line.
    kind : type, optional
        Type that the outermost value must have; None for any.
    error : type of FlowpipeError
        Error to raise.

    Returns
    -------
    object
        Values.

    Raises
    ------
    FlowpipeError
        Of the kind `error`: no JSON, another outermost value, or more than `MOST_DEPTH` levels.
    """
    try:
        values = json.loads(text)
        # As many brackets as levels, at least: short texts need no second look.
        brackets = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
        if sum(map(text.count, brackets)) > MOST_DEPTH:  # type: ignore[arg-type]
            _check_depth(values)
    except (ValueError, RecursionError) as cause:
        words = "it is nested too deeply" if isinstance(cause, RecursionError) else cause
        raise error(f"{name} is not valid JSON: {words}") from cause
    if kind is not None and not isinstance(values, kind):
        raise error(f"{name} must hold {_NAMES[kind]}, got {_brief(values)}")
    return values


def read_yaml(path: str | os.PathLike[str], *, error: type[FlowpipeError] = RecipeError) -> Any:
    """Read a YAML file; see `read_text` and `parse_yaml` for the errors.

    Parameters
    ----------
    path : path
        File to read.
    error : type of FlowpipeError
        Error to raise.

    Returns
    -------
    object
        Values.
    """
    text = read_text(path, error=error, most_bytes=MOST_YAML_BYTES)
    return parse_yaml(text, os.fspath(path), error=error)


def parse_yaml(text: str, name: str, *, error: type[FlowpipeError] = RecipeError) -> Any:
    """Return the values of YAML text: mappings, lists, strings, numbers, bools and None.

    Parameters
    ----------
    text : str
        YAML.
    name : str
        What the text is, for messages.
    error : type of FlowpipeError
        Error to raise.

    Returns
    -------
    object
        Values.

    Raises
    ------
    FlowpipeError
        Of the kind `error`: no YAML, values of another type, more than `MOST_DEPTH` levels or
        `MOST_YAML_VALUES` values once its aliases are expanded.
    """
    try:
        values = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, LookupError) as cause:
        # The constructors of PyYAML raise Python's errors for dates and numbers that are none.
        raise error(f"{name} is not valid YAML: {cause}") from cause
    strange = _strange(values)
    if strange is not None:
        kind = type(strange).__name__
        raise error(f"{name}: {strange!s:.60} is a {kind}; put it in quotes if it is meant as text")
    return values


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without blocking, as a pipe without a writer would."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(MOST_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
    if any(isinstance(value, (dict, list)) for value in level):
        raise RecursionError


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _strange(values: Any) -> Any:
    """Return the first value that JSON cannot hold; None if there is none."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif value is not None and not isinstance(value, (str, int, float)):
            return value
    return None


def _brief(values: Any) -> str:
    return next((n for t, n in _NAMES.items() if isinstance(values, t)), repr(values))


class _Loader(yaml.SafeLoader):
    """YAML with bounds, and with 1e-3 a number as in YAML 1.2; PyYAML follows 1.1: a string."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}
        """Values below each finished node, by its identity; the nodes live as long as this."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, and count what it holds with its aliases expanded."""
        event = self.peek_event()
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _make_error("it is nested too deeply", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            size = 1 + sum(self._sizes[id(child)] for child in _children(node))
            if size > MOST_YAML_VALUES:
                words = f"its aliases expand to more than {MOST_YAML_VALUES} values"
                raise _make_error(words, event)
            self._sizes[id(node)] = size
        elif id(node) not in self._sizes:
            raise _make_error("an alias stands inside of what it names", event)
        return node


def _make_error(words: str, event: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=words, problem_mark=event.start_mark)


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
