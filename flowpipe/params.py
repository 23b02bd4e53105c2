"""YAML -> frozen params: strict, every mistake reported at once, with a digest.

Knows no section by name: it builds any frozen dataclass from plain values. A field may be a
number, a string, a bool, a tuple, a ``Literal``, another dataclass, a mapping, plain values
(``Any``), or a *choice*: a mapping whose ``name`` picks a params class from a table given in the
field's metadata (``field(metadata={"choices": {"jpeg": JpegParams, ...}})``). A dataclass may name
fields in ``TOGETHER`` that are given all or none, since the default of one makes no sense beside a
value of another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from flowpipe import strict
from flowpipe.errors import RecipeError
from flowpipe.words import did_you_mean, unknown_name

SUFFIXES = (".yaml", ".yml")
"""Names of recipe files end in one of these."""

T = TypeVar("T")


def load(path: str | Path) -> dict[str, Any]:
    """Read a recipe file.

    Parameters
    ----------
    path : path
        YAML file.

    Returns
    -------
    dict
        Plain values.

    Raises
    ------
    RecipeError
        If the file cannot be read or is no mapping.
    """
    try:
        values = strict.read_yaml(path)
    except FileNotFoundError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error.strerror}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} must hold a mapping at its top, got {type(values).__name__}")
    return values


def override(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply ``key.sub=value`` settings.

    Parameters
    ----------
    values : mapping
        Plain values.
    settings : sequence of str
        Settings; their values are read as YAML.

    Returns
    -------
    dict
        Changed copy.

    Raises
    ------
    RecipeError
        If a setting has no such form.
    """
    result: dict[str, Any] = json.loads(json.dumps(values))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set wants key=value, got {setting!r}")
        node = result
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise RecipeError(f"--set {setting}: {parent} is a value, not a section")
        node[last] = strict.parse_yaml(text, f"the value of --set {setting}")
    return result


def build(cls: type[T], values: Mapping[str, Any], *, where: str = "recipe") -> T:
    """Make a params object from plain values.

    Parameters
    ----------
    cls : type
        Frozen dataclass.
    values : mapping
        Keys are field names; fields left out take their defaults. NumPy's scalars become Python's.
    where : str
        Prefix of the key names in messages.

    Returns
    -------
    T
        The params.

    Raises
    ------
    RecipeError
        With every unknown key (and the nearest known one) and every wrong value, a line each.
    """
    mistakes: list[str] = []
    result = _build_params(cls, values, where, mistakes)
    if mistakes:
        raise RecipeError("\n".join(mistakes))
    return typing.cast(T, result)


def plain(params: Any, *, stored: bool = False) -> Any:
    """Turn params into values that YAML and JSON can hold, every default written out.

    A field with the metadata ``omit_default`` is left out at its default, so that recipes without
    it keep the digest that they had before the field existed. A field with the metadata ``local``,
    such as a path, holds on one machine only.

    Parameters
    ----------
    params : object
        Params, or part of them.
    stored : bool
        True to leave out local fields, as a store does.

    Returns
    -------
    object
        Plain values.
    """
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        values = {
            f.name: plain(getattr(params, f.name), stored=stored)
            for f in dataclasses.fields(params)
            if not (f.metadata.get("omit_default") and getattr(params, f.name) == f.default)
            and not (stored and f.metadata.get("local"))
        }
        name = getattr(type(params), "name", None)
        return {"name": name, **values} if isinstance(name, str) else values
    if isinstance(params, Mapping):
        return {str(key): plain(value, stored=stored) for key, value in params.items()}
    if isinstance(params, (tuple, list)):
        return [plain(value, stored=stored) for value in params]
    return params


def dump(values: Any) -> str:
    """Format plain values as YAML.

    Parameters
    ----------
    values : object
        Plain values.

    Returns
    -------
    str
        YAML that `load` reads back.
    """
    return str(
        yaml.safe_dump(
            values, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
        )
    )


def canonical(params: Any) -> str:
    """Format params as one line of JSON, without what holds on one machine only.

    Parameters
    ----------
    params : object
        Params.

    Returns
    -------
    str
        JSON with sorted keys; equal params give equal text on every machine.
    """
    values = plain(params, stored=True)
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(params: Any) -> str:
    """Compute the digest of params, which a store compares before it accepts a shard.

    Parameters
    ----------
    params : object
        Params.

    Returns
    -------
    str
        Hexadecimal SHA-256 of `canonical`.
    """
    return hashlib.sha256(canonical(params).encode()).hexdigest()


def _build_params(cls: Any, values: Any, where: str, mistakes: list[str]) -> Any:
    if dataclasses.is_dataclass(values) and isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        mistakes.append(f"{where} must be a section of keys, got {values!r}")
        return None
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            mistakes.append(f"{where}.{key} is unknown; {did_you_mean(str(key), fields)}")
    together = getattr(cls, "TOGETHER", ())
    given = [key for key in together if key in values]
    if given and len(given) < len(together):
        lacking = [key for key in together if key not in values]
        mistakes.append(
            f"{where} has {' and '.join(given)} without {' and '.join(lacking)}; give "
            f"{'both' if len(together) == 2 else 'all'} or none"
        )
    before = len(mistakes)
    arguments = {
        key: _build_field(fields[key], hints[key], value, f"{where}.{key}", mistakes)
        for key, value in values.items()
        if key in fields
    }
    if len(mistakes) > before:
        return None
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        mistakes.append(f"{where}: {error}")
        return None


def _build_field(
    row: dataclasses.Field[Any], hint: Any, value: Any, where: str, mistakes: list[str]
) -> Any:
    choices = row.metadata.get("choices")
    if choices is None:
        return _build_value(hint, value, where, mistakes)
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            mistakes.append(f"{where} must be a section of keys, got {value!r}")
            return None
        return {k: _build_choice(choices, v, f"{where}.{k}", mistakes) for k, v in value.items()}
    return _build_choice(choices, value, where, mistakes)


def _build_choice(choices: Mapping[str, Any], value: Any, where: str, mistakes: list[str]) -> Any:
    if dataclasses.is_dataclass(value):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        mistakes.append(f"{where} must name one of {', '.join(choices)}, got {value!r}")
        return None
    name = value["name"]
    if name not in choices:
        mistakes.append(unknown_name(f"{where}.name", name, choices))
        return None
    rest = {key: entry for key, entry in value.items() if key != "name"}
    return _build_params(choices[name], rest, where, mistakes)


def _python(value: Any) -> Any:
    """Convert a NumPy scalar to Python: np.float64 is a float, but has other bytes in a launch."""
    for theirs, ours in ((np.bool_, bool), (np.integer, int), (np.floating, float), (np.str_, str)):
        if isinstance(value, theirs):
            return ours(value)
    return value


def _build_value(hint: Any, value: Any, where: str, mistakes: list[str]) -> Any:
    value = _python(value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build_params(hint, value, where, mistakes)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        return _build_value(kinds[0], value, where, mistakes)
    if origin is typing.Literal:
        if type(value) is int and str(value) in arguments:
            return str(value)  # as the 444 of `subsampling: 444`, which YAML takes for a number
        if value not in arguments:
            known = [*map(str, arguments)]
            mistakes.append(
                unknown_name(where, value, known)
                if isinstance(value, str)
                else f"{where} must be one of {', '.join(known)}, got {value!r}"
            )
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            mistakes.append(f"{where} must be a list, got {value!r}")
            return None
        return tuple(
            _build_value(arguments[0], entry, f"{where}[{i}]", mistakes)
            for i, entry in enumerate(value)
        )
    if origin is Mapping:
        if not isinstance(value, Mapping):
            mistakes.append(f"{where} must be a section of keys, got {value!r}")
            return None
        return {
            str(key): _build_value(arguments[1], entry, f"{where}.{key}", mistakes)
            for key, entry in value.items()
        }
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        mistakes.append(f"{where} must be {hint.__name__}, got {value!r}")
    return value
